//! Numbers: counts of attempts and deliveries over time, and what is pending now.

use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::histogram::Histogram;
use hookline_core::timestamp::Timestamp;
use hookline_core::violations::Violations;
use hookline_store::{
    CurrentNumbers, StatsCounts, StatsGroup, StatsQuery, StatsScope, StatsSeries, WaitingCount,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::routes::stats_request::StatsRequest;
use crate::state::AppState;

/// Numbers over time, and of now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub(crate) struct StatsResponse {
    /// The begin of the first step.
    #[schema(format = DateTime, example = "2025-12-21T10:00:00Z")]
    since: String,
    /// The end of the last step.
    #[schema(format = DateTime, example = "2025-12-21T11:00:00Z")]
    until: String,
    #[schema(example = "1h")]
    step: &'static str,
    #[schema(required = true, example = "code_class")]
    group_by: Option<&'static str>,
    /// Without `group_by` one series. With it, one for each group that has a count.
    series: Vec<SeriesResponse>,
    current: CurrentResponse,
}

/// The numbers of a group. The field of `group_by` names it, and the others are null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatsSeries)]
pub(crate) struct SeriesResponse {
    /// Also of a deleted subscription.
    #[schema(required = true, example = json!(null))]
    subscription_id: Option<i64>,
    #[schema(required = true, example = json!(null))]
    event_type: Option<String>,
    /// The result of an attempt for its delivery: `delivered`, `retried` (it failed, and another attempt follows) or
    /// `exhausted`. Or the end of a delivery without an attempt: `exhausted`, `skipped` or `cancelled`.
    #[schema(required = true, example = json!(null))]
    outcome: Option<&'static str>,
    /// The class of the response's status; `none` without a response.
    #[schema(required = true, example = "2xx")]
    code_class: Option<&'static str>,
    /// The `kind` of the error; `none` without an error.
    #[schema(required = true, example = json!(null))]
    error_kind: Option<&'static str>,
    /// Of all steps together.
    total: NumbersResponse,
    /// A point for each step, oldest first.
    points: Vec<PointResponse>,
}

/// The numbers of a step.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatsPoint)]
pub(crate) struct PointResponse {
    /// The begin of the step.
    #[schema(format = DateTime, example = "2025-12-21T10:00:00Z")]
    at: String,
    #[serde(flatten)]
    numbers: NumbersResponse,
}

/// Counts and percentiles.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatsNumbers)]
pub(crate) struct NumbersResponse {
    /// Attempts that began in the step, as in the log.
    #[schema(example = 120)]
    attempts: u64,
    #[schema(example = 3)]
    failed_attempts: u64,
    /// Deliveries that ended as `delivered`. One that ends with an attempt counts in the step of that attempt. One that is
    /// restarted ends again, and counts again.
    #[schema(example = 117)]
    delivered: u64,
    #[schema(example = 1)]
    exhausted: u64,
    /// A skipped or cancelled delivery counts when it ends, which may be only when its next attempt would have been due.
    #[schema(example = 0)]
    skipped: u64,
    #[schema(example = 0)]
    cancelled: u64,
    /// Of attempts. Null without an attempt.
    #[schema(required = true)]
    duration_ms: Option<Percentiles>,
    /// From the intake of an event to its delivery, of deliveries that were not restarted. Null without such a delivery.
    #[schema(required = true)]
    latency_ms: Option<Percentiles>,
}

/// Estimates in milliseconds. Each lies in the bucket of the true value; the buckets begin at 0 and at 1, 2 and 5 times each
/// power of ten.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Percentiles {
    #[schema(example = 12.5)]
    p50: f64,
    #[schema(example = 48.2)]
    p95: f64,
    #[schema(example = 95.1)]
    p99: f64,
}

/// Pending deliveries, whatever `since` and `until` are.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CurrentNumbers)]
pub(crate) struct CurrentResponse {
    #[schema(example = 42)]
    pending: u64,
    /// The pending deliveries by what they wait for.
    waiting: Vec<WaitingResponse>,
    /// There are 10,000 pending deliveries or more, and the counts above are of 10,000 of them.
    #[schema(example = false)]
    capped: bool,
    /// The earliest `next_attempt_at` that has passed. Null where no attempt is overdue.
    #[schema(format = DateTime, required = true, example = "2025-12-21T10:30:00Z")]
    oldest_due_at: Option<String>,
}

/// Pending deliveries that wait for the same.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WaitingCount)]
pub(crate) struct WaitingResponse {
    /// As in a delivery.
    #[schema(required = true, example = "retry")]
    waiting_for: Option<&'static str>,
    #[schema(example = 42)]
    deliveries: u64,
}

/// Count attempts and deliveries over time, and what is pending now.
#[utoipa::path(
    get, path = "/stats", tag = "Logs", operation_id = "getStats",
    params(crate::schemas::parameters::StatsParameters),
    responses(
        (status = 200, description = "Numbers", body = StatsResponse),
        (status = 404, description = "The organization has no such subscription"),
    ),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn show(
    caller: Caller,
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let now = hookline_clock::now();
    let asked = StatsRequest::parse(&request, now)?;
    let store = &state.api.store;
    let organization = caller.organization;
    if let Some(id) = asked.subscription {
        let known = store.subscription(organization.clone(), id).await?;
        if known.is_none() {
            return Err(ApiError::NotFound);
        }
    }
    let scope = StatsScope {
        organization,
        subscription: asked.subscription,
        event_type: asked.event_type,
    };
    let query = StatsQuery {
        scope: scope.clone(),
        since: asked.since,
        until: asked.until,
        step: asked.step,
        group_by: asked.group_by,
    };
    let Some(series) = store.stats(query).await? else {
        let message = "there are too many counts in this time: ask for a shorter time, or for one subscription or \
                       event type";
        return Err(Violations::one("since", message).into());
    };
    asked.check_series(series.len())?;
    let current = store.current_numbers(scope, now).await?;
    Ok(HttpResponse::Ok().json(StatsResponse {
        since: asked.since.to_string(),
        until: asked.until.to_string(),
        step: asked.step.as_str(),
        group_by: asked.group_by.map(|group| group.as_str()),
        series: series.iter().map(|one| series_of(one, &asked)).collect(),
        current: current.into(),
    }))
}

fn series_of(series: &StatsSeries, asked: &StatsRequest) -> SeriesResponse {
    let none = StatsCounts::default();
    let at = |step: i64| {
        Timestamp::from_unix_micros(asked.since.unix_micros() + step * asked.step.micros())
    };
    let points = (0..asked.steps()).map(at).map(|at| PointResponse {
        at: at.to_string(),
        numbers: series.points.get(&at).unwrap_or(&none).into(),
    });
    let mut response = SeriesResponse {
        subscription_id: None,
        event_type: None,
        outcome: None,
        code_class: None,
        error_kind: None,
        total: (&series.total).into(),
        points: points.collect(),
    };
    match &series.group {
        StatsGroup::All => {}
        StatsGroup::Subscription(id) => response.subscription_id = Some(id.0),
        StatsGroup::EventType(name) => response.event_type = Some(name.clone()),
        StatsGroup::Outcome(outcome) => response.outcome = Some(outcome.as_str()),
        StatsGroup::CodeClass(class) => response.code_class = Some(class.as_str()),
        StatsGroup::ErrorKind(kind) => response.error_kind = Some(kind.unwrap_or("none")),
    }
    response
}

impl From<&StatsCounts> for NumbersResponse {
    fn from(counts: &StatsCounts) -> Self {
        Self {
            attempts: counts.attempts,
            failed_attempts: counts.failed_attempts,
            delivered: counts.delivered,
            exhausted: counts.exhausted,
            skipped: counts.skipped,
            cancelled: counts.cancelled,
            duration_ms: Percentiles::of(&counts.durations),
            latency_ms: Percentiles::of(&counts.latencies),
        }
    }
}

impl Percentiles {
    fn of(histogram: &Histogram) -> Option<Self> {
        // Rounded down to a tenth, so that the value stays in its bucket.
        let percentile = |percent| {
            let value = histogram.percentile(percent)?;
            Some((value * 10.0).floor() / 10.0)
        };
        Some(Self {
            p50: percentile(50)?,
            p95: percentile(95)?,
            p99: percentile(99)?,
        })
    }
}

impl From<CurrentNumbers> for CurrentResponse {
    fn from(current: CurrentNumbers) -> Self {
        let waiting = |one: &WaitingCount| WaitingResponse {
            waiting_for: one.waiting_for.map(|what| what.as_str()),
            deliveries: one.deliveries,
        };
        Self {
            pending: current.pending,
            waiting: current.waiting.iter().map(waiting).collect(),
            capped: current.is_capped,
            oldest_due_at: current.oldest_due.map(|due| due.to_string()),
        }
    }
}
