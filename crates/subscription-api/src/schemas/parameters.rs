//! Query parameters and headers of requests.

use utoipa::IntoParams;

use super::{
    AttemptStatusName, DeliveryStatusName, ErrorKindName, EventTypeName, IncludeName,
    StatsGroupByName, StatsStepName,
};

/// The header of a call that may be repeated safely.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct IdempotencyParameter {
    /// 1 to 255 visible ASCII characters. A repeat within 24 hours has no further effect and gets the response of the
    /// first request. It is 422 with another body, and 409 while the first request is running.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$",
        nullable = false
    )]
    key: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubscriptionParameters {
    /// Only active ones, or only inactive ones.
    #[param(nullable = false)]
    is_active: Option<bool>,
    /// Only those whose `events` select this type, also by a wildcard.
    #[param(inline, nullable = false)]
    event_type: Option<EventTypeName>,
    /// Only those with this text in their name, in any case: 1 to 255 characters.
    #[param(min_length = 1, max_length = 255, nullable = false)]
    name: Option<String>,
    /// Only those with this text in their URL, in any case: 1 to 2,048 characters.
    #[param(min_length = 1, max_length = 2048, nullable = false)]
    url: Option<String>,
    /// Rows of the page, 1 to 100. Without it, all rows, or 50 with a cursor.
    #[param(minimum = 1, maximum = 100, nullable = false)]
    limit: Option<u32>,
    /// Rows to skip, 0 to 10,000. A cursor is faster, and reaches rows beyond.
    #[param(minimum = 0, maximum = 10_000, nullable = false)]
    offset: Option<u64>,
    /// The `next_cursor` of an earlier response. It cannot be used with `offset`.
    #[param(nullable = false, pattern = "^A[w-z0-9_-][A-Za-z0-9_-]{38}$")]
    cursor: Option<String>,
}

/// The conditions that all lists of attempts, deliveries and events have.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilterParameters {
    /// Only rows created at this time or later.
    #[param(format = DateTime, nullable = false, example = "2025-12-21T10:30:00Z")]
    since: Option<String>,
    /// Only rows created before this time.
    #[param(format = DateTime, nullable = false, example = "2025-12-22T10:30:00Z")]
    until: Option<String>,
    /// Only this event type.
    #[param(inline, nullable = false)]
    event_type: Option<EventTypeName>,
    /// Only this subscription, also a deleted one. The list of one subscription has no rows of another.
    #[param(minimum = 1, nullable = false, example = 7)]
    subscription_id: Option<i64>,
    /// Only this event.
    #[param(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        nullable = false,
        example = "evt_abc123"
    )]
    event_id: Option<String>,
    /// Only events of this workflow run.
    #[param(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        nullable = false,
        example = "wf_xyz789"
    )]
    workflow_id: Option<String>,
    /// Only this response code (`500`), class (`5xx`) or range (`400-499`): of the attempt, or of the last attempt of the
    /// delivery.
    #[param(
        pattern = "^[1-9](xx|[0-9]{2}(-[1-9][0-9]{2})?)$",
        nullable = false,
        example = "5xx"
    )]
    response_status: Option<String>,
    /// Only this kind of error: of the attempt, or of the last attempt of the delivery.
    #[param(inline, nullable = false)]
    error_kind: Option<ErrorKindName>,
    /// Only this number of the attempt, or of attempts made.
    #[param(minimum = 1, maximum = 2_147_483_647, nullable = false, example = 2)]
    attempt: Option<u32>,
    /// Only attempts, or deliveries with a last attempt, that took this many milliseconds or longer.
    #[param(minimum = 0, maximum = 2_147_483_647, nullable = false, example = 1000)]
    min_duration_ms: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct IncludeParameter {
    /// `bodies`: with the bodies of requests and responses. `none`: without them.
    #[param(inline, nullable = false)]
    include: Option<IncludeName>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamParameters {
    /// Only this result.
    #[param(inline, nullable = false, example = "failed")]
    status: Option<AttemptStatusName>,
}

/// The header of a stream that goes on.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct LastEventIdParameter {
    /// The `id` of the last event of an earlier stream with the same filter. The stream goes on after it.
    #[param(
        rename = "Last-Event-ID",
        nullable = false,
        pattern = "^B[Q-Za-f][A-Za-z0-9_-]{38}$"
    )]
    last_event_id: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryParameters {
    /// Only this status.
    #[param(inline, nullable = false, example = "pending")]
    status: Option<DeliveryStatusName>,
    /// Rows of the page, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 50, nullable = false)]
    limit: Option<u32>,
    /// Rows to skip, 0 to 10,000. A cursor is faster, and reaches rows beyond.
    #[param(minimum = 0, maximum = 10_000, default = 0, nullable = false)]
    offset: Option<u64>,
    /// The `next_cursor` of an earlier response. It cannot be used with `offset`.
    #[param(nullable = false, pattern = "^A[Q-Za-f][A-Za-z0-9_-]{38}$")]
    cursor: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReplayParameters {
    /// Only replays of this subscription; those of the whole organization are left out then.
    #[param(minimum = 1, nullable = false, example = 7)]
    subscription_id: Option<i64>,
    /// Rows of the page, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 50, nullable = false)]
    limit: Option<u32>,
    /// Rows to skip, 0 to 10,000. A cursor is faster, and reaches rows beyond.
    #[param(minimum = 0, maximum = 10_000, default = 0, nullable = false)]
    offset: Option<u64>,
    /// The `next_cursor` of an earlier response. It cannot be used with `offset`.
    #[param(nullable = false, pattern = "^B[Q-Za-f][A-Za-z0-9_-]{38}$")]
    cursor: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventParameters {
    /// Only events with a delivery of this status.
    #[param(inline, nullable = false, example = "exhausted")]
    status: Option<DeliveryStatusName>,
    /// Rows of the page, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 50, nullable = false)]
    limit: Option<u32>,
    /// Rows to skip, 0 to 10,000. A cursor is faster, and reaches rows beyond.
    #[param(minimum = 0, maximum = 10_000, default = 0, nullable = false)]
    offset: Option<u64>,
    /// The `next_cursor` of an earlier response. It cannot be used with `offset`.
    #[param(nullable = false, pattern = "^B[A-P][A-Za-z0-9_-]{38}$")]
    cursor: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AttemptParameters {
    /// Attempts in the response, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 50, nullable = false)]
    attempts_limit: Option<u32>,
    /// The `next_attempts_cursor` of an earlier response.
    #[param(nullable = false, pattern = "^A[A-P][A-Za-z0-9_-]{38}$")]
    attempts_cursor: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventDeliveryParameters {
    /// Subscriptions in the response, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 50, nullable = false)]
    deliveries_limit: Option<u32>,
    /// The `next_deliveries_cursor` of an earlier response.
    #[param(nullable = false, pattern = "^A[g-v][A-Za-z0-9_-]{38}$")]
    deliveries_cursor: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParameters {
    /// Only this result.
    #[param(inline, nullable = false, example = "failed")]
    status: Option<AttemptStatusName>,
    /// Rows of the page, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 50, nullable = false)]
    limit: Option<u32>,
    /// Rows to skip, 0 to 10,000. A cursor is faster, and reaches rows beyond.
    #[param(minimum = 0, maximum = 10_000, default = 0, nullable = false)]
    offset: Option<u64>,
    /// The `next_cursor` of an earlier response. It cannot be used with `offset`.
    #[param(nullable = false, pattern = "^A[A-P][A-Za-z0-9_-]{38}$")]
    cursor: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatsParameters {
    /// Only this subscription.
    #[param(minimum = 1, nullable = false)]
    subscription_id: Option<i64>,
    /// Only this event type.
    #[param(inline, nullable = false)]
    event_type: Option<EventTypeName>,
    /// The first step is the one of this time. By default an hour before `until` with the step `1m`, a day with `1h`, and
    /// 30 days with `1d`. With `1m` at most 24 hours ago.
    #[param(format = DateTime, nullable = false)]
    since: Option<String>,
    /// The last step is the one that ends at this time or has it within. By default now.
    #[param(format = DateTime, nullable = false)]
    until: Option<String>,
    /// The length of a step, which begins at a whole minute, hour or day of UTC. By default `1h`.
    #[param(inline, nullable = false, example = "1h")]
    step: Option<StatsStepName>,
    /// A series for each value of this field.
    #[param(inline, nullable = false, example = "code_class")]
    group_by: Option<StatsGroupByName>,
}
