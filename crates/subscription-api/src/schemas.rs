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
pub(crate) mod replay;
pub(crate) mod subscription;

use std::borrow::Cow;

use hookline_core::event_type::{EventPattern, EventType};
use serde::Deserialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// The type of an event.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventTypeName(String);

impl PartialSchema for EventTypeName {
    fn schema() -> RefOr<Schema> {
        let names = EventType::ALL.map(EventType::as_str);
        words("The type of an event.", &names)
    }
}

impl ToSchema for EventTypeName {
    fn name() -> Cow<'static, str> {
        "EventType".into()
    }
}

/// An entry of a subscription's `events`.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventPatternName(String);

impl PartialSchema for EventPatternName {
    fn schema() -> RefOr<Schema> {
        let types = EventType::ALL.map(EventPattern::from).into_iter();
        let all = types.chain(EventPattern::wildcards());
        let names: Vec<String> = all.map(|pattern| pattern.to_string()).collect();
        words(
            "An event type or a wildcard. `workflow.*` selects every type with exactly one word after `workflow.`, and `*` every type.",
            &names,
        )
    }
}

impl ToSchema for EventPatternName {
    fn name() -> Cow<'static, str> {
        "EventPattern".into()
    }
}

fn words(description: &str, names: &[impl AsRef<str>]) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .enum_values(Some(names.iter().map(AsRef::as_ref)))
        .into()
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
#[derive(Deserialize, ToSchema)]
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
