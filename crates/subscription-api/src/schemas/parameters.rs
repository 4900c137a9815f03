//! Query parameters and headers of requests.

use utoipa::IntoParams;

use super::{
    AttemptStatusName, DeliveryStatusName, EventTypeName, StatsGroupByName, StatsStepName,
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

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryParameters {
    /// Only this event type.
    #[param(inline, nullable = false)]
    event_type: Option<EventTypeName>,
    /// Only this status.
    #[param(inline, nullable = false, example = "pending")]
    status: Option<DeliveryStatusName>,
    /// Only deliveries created at this time or later.
    #[param(format = DateTime, nullable = false, example = "2025-12-21T10:30:00Z")]
    since: Option<String>,
    /// Only deliveries created before this time.
    #[param(format = DateTime, nullable = false, example = "2025-12-22T10:30:00Z")]
    until: Option<String>,
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
    /// Only this event type.
    #[param(inline, nullable = false)]
    event_type: Option<EventTypeName>,
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
