//! The documented forms of requests. The core and the routes parse requests themselves, because a derived parser stops at
//! the first invalid field.
//!
//! An optional field has no `default` here: openapi-typescript would make it required.

#![expect(
    dead_code,
    reason = "forms for the OpenAPI document; nothing constructs them"
)]

pub(crate) mod bodies;
pub(crate) mod parameters;

use serde::Deserialize;
use utoipa::ToSchema;

/// The type of an event.
#[derive(Deserialize, ToSchema, PartialEq, Eq, PartialOrd, Ord)]
#[schema(as = EventType)]
pub(crate) enum EventTypeName {
    #[serde(rename = "workflow.started")]
    WorkflowStarted,
    #[serde(rename = "workflow.completed")]
    WorkflowCompleted,
    #[serde(rename = "workflow.failed")]
    WorkflowFailed,
    #[serde(rename = "workflow.step.started")]
    StepStarted,
    #[serde(rename = "workflow.step.completed")]
    StepCompleted,
    #[serde(rename = "workflow.step.failed")]
    StepFailed,
}

/// The status of a delivery.
#[derive(ToSchema)]
#[schema(as = DeliveryStatus, rename_all = "snake_case")]
pub(crate) enum DeliveryStatusName {
    Pending,
    Delivered,
    Exhausted,
    Skipped,
    Cancelled,
}

/// The result of an attempt.
#[derive(ToSchema)]
#[schema(as = AttemptStatus, rename_all = "snake_case")]
pub(crate) enum AttemptStatusName {
    Success,
    Failed,
}

/// The length of a step.
#[derive(ToSchema)]
#[schema(as = StatsStep)]
pub(crate) enum StatsStepName {
    #[schema(rename = "1m")]
    Minute,
    #[schema(rename = "1h")]
    Hour,
    #[schema(rename = "1d")]
    Day,
}

/// What tells the series apart.
#[derive(ToSchema)]
#[schema(as = StatsGroupBy, rename_all = "snake_case")]
pub(crate) enum StatsGroupByName {
    SubscriptionId,
    EventType,
    Outcome,
    CodeClass,
    ErrorKind,
}
