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

/// The kind of an error.
#[derive(ToSchema)]
#[schema(as = ErrorKind, rename_all = "snake_case")]
pub(crate) enum ErrorKindName {
    Timeout,
    Dns,
    Connect,
    Tls,
    BlockedAddress,
    HttpStatus,
    Response,
}

/// Parts of rows that are left out on request.
#[derive(ToSchema)]
#[schema(as = Include, rename_all = "snake_case")]
pub(crate) enum IncludeName {
    Bodies,
    None,
}
