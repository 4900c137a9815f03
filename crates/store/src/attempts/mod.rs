//! The log of attempts.

use std::sync::Arc;

use hookline_core::cursor::Cursor;
use hookline_core::delivery::Trigger;
use hookline_core::event_type::EventType;
use hookline_core::filter::{AttemptFacts, Filter};
use hookline_core::http_log::HttpLog;
use hookline_core::ids::{
    AttemptId, DeliveryId, EventId, OrganizationId, SubscriptionId, WorkflowId,
};
use hookline_core::outcome::FailureKind;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::paging::{PageStart, ResultPage};
use crate::search::excerpts::Excerpt;
use crate::search::{SearchRange, search};
use crate::store::{Store, run};

pub(crate) mod delivery_details;
pub(crate) mod postgres;
pub(crate) mod rows;
pub(crate) mod sql;
pub(crate) mod sqlite;
pub(crate) mod totals;

#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::IntoStaticStr,
    strum::EnumString,
)]
#[strum(serialize_all = "snake_case")]
pub enum AttemptStatus {
    /// A complete 2xx response.
    Success,
    Failed,
}

impl AttemptStatus {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// A search in the log.
#[derive(Debug, Clone)]
pub struct LogQuery {
    pub organization: OrganizationId,
    pub filter: Filter<AttemptStatus>,
    pub limit: u32,
    pub start: PageStart,
    /// The most bytes of events that are read, if any. An event beyond them is read up to its first 256 bytes.
    pub body_bytes: Option<usize>,
}

impl LogQuery {
    /// Whether it filters only by what the totals are kept by.
    fn is_counted(&self) -> bool {
        let counted = Filter {
            event_type: self.filter.event_type,
            status: self.filter.status,
            subscription: self.filter.subscription,
            ..Filter::default()
        };
        self.filter == counted
    }
}

/// An attempt and the event of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub attempt: LoggedAttempt,
    /// None where bodies are not read.
    pub request_body: Option<Excerpt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedAttempt {
    pub id: AttemptId,
    pub delivery_id: DeliveryId,
    pub subscription_id: SubscriptionId,
    pub event_id: EventId,
    pub event_type: EventType,
    pub number: u32,
    pub trigger: Trigger,
    pub status: AttemptStatus,
    pub url: String,
    pub response_status: Option<u16>,
    /// The beginning of the body.
    pub response_body: Option<String>,
    pub error: Option<LoggedError>,
    pub duration_ms: u64,
    pub created_at: Timestamp,
    /// The due time of the next attempt, as decided then.
    pub next_attempt_at: Option<Timestamp>,
    pub http: HttpLog,
}

impl LoggedAttempt {
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedError {
    pub kind: FailureKind,
    pub message: String,
}

impl LoggedAttempt {
    /// The facts for a filter. The log does not have the workflow.
    pub fn facts<'a>(
        &'a self,
        workflow: Option<&'a WorkflowId>,
    ) -> AttemptFacts<'a, AttemptStatus> {
        AttemptFacts {
            created_at: self.created_at,
            status: self.status,
            event_type: self.event_type,
            subscription: self.subscription_id,
            event: &self.event_id,
            workflow,
            response_status: self.response_status,
            error_kind: self.error.as_ref().map(|error| error.kind),
            attempt: self.number,
            duration_ms: self.duration_ms,
        }
    }
}

impl Store {
    /// Newest first. The total is none where the filter has more than a subscription, a type and a status.
    pub async fn log(
        &self,
        query: LogQuery,
    ) -> Result<ResultPage<LogEntry, Option<u64>>, StoreError> {
        let total = match query.is_counted() {
            true => Some(self.log_total(&query).await?),
            false => None,
        };
        if total == Some(0) {
            // The search would read the whole log to find nothing.
            return Ok(ResultPage::empty(total));
        }
        let (start, limit, room) = (query.start, query.limit, query.body_bytes);
        let range = SearchRange::of(query.filter.since, query.filter.until);
        let Some(plan) = run!(self, read, |conn, q: sql| q::plan(conn, query))? else {
            return Ok(ResultPage::empty(total));
        };
        let plan = Arc::new(plan);
        let step = async |range, share| {
            let plan = Arc::clone(&plan);
            run!(self, read, |conn, q: sql| q::step(
                conn, &plan, range, share
            ))
        };
        let (found, searched) = search(start, limit, range, &plan.keys, step).await?;
        let rows = run!(self, read, |conn, q: sql| q::entries(conn, &found, room))?;
        Ok(ResultPage {
            rows,
            total,
            searched,
        })
    }

    async fn log_total(&self, query: &LogQuery) -> Result<u64, StoreError> {
        let (mut total, mut after) = (0, None);
        loop {
            let (query, from) = (query.clone(), after);
            let (sum, end) = run!(self, read, |conn, q: totals| q::sum(
                conn,
                &query,
                from.as_ref()
            ))?;
            total += sum;
            if end.is_none() {
                return Ok(total);
            }
            after = end;
        }
    }
}
