//! Bodies that start a replay.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};

use super::{ErrorKindName, EventTypeName};

const STATUSES: [&str; 5] = ["pending", "delivered", "exhausted", "skipped", "cancelled"];

macro_rules! replay_body {
    ($(#[$doc:meta])* $name:ident as $schema:ident like $example:tt { $($extra:tt)* }) => {
        $(#[$doc])*
        #[derive(Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        #[schema(as = $schema, example = json!($example))]
        pub(crate) struct $name {
            /// Only deliveries created at this time or later.
            #[schema(format = DateTime, nullable = false, example = "2025-12-21T10:30:00Z")]
            since: Option<String>,
            /// Only deliveries created before this time. A replay never includes deliveries created after its request.
            #[schema(format = DateTime, nullable = false, example = "2025-12-22T10:30:00Z")]
            until: Option<String>,
            #[schema(schema_with = status)]
            status: Option<Value>,
            /// Only deliveries of these event types, each at most once.
            #[schema(min_items = 1, nullable = false)]
            event_types: Option<BTreeSet<EventTypeName>>,
            /// Only deliveries of this event type.
            #[schema(value_type = String, required = false, nullable = false, example = "workflow.failed")]
            event_type: Option<EventTypeName>,
            /// Only deliveries of this event.
            #[schema(
                min_length = 1,
                max_length = 255,
                pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
                nullable = false,
                example = "evt_abc123"
            )]
            event_id: Option<String>,
            /// Only deliveries of events of this workflow run.
            #[schema(
                min_length = 1,
                max_length = 255,
                pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
                nullable = false,
                example = "wf_xyz789"
            )]
            workflow_id: Option<String>,
            /// Only if the last attempt had this response code (`500`), class (`5xx`) or range (`400-499`).
            #[schema(
                pattern = "^[1-9](xx|[0-9]{2}(-[1-9][0-9]{2})?)$",
                nullable = false,
                example = "5xx"
            )]
            response_status: Option<String>,
            /// Only if the last attempt had this kind of error.
            #[schema(value_type = String, required = false, nullable = false, example = "http_status")]
            error_kind: Option<ErrorKindName>,
            /// Only with this number of attempts made.
            #[schema(minimum = 1, maximum = 2_147_483_647, nullable = false, example = 2)]
            attempt: Option<u32>,
            /// Only if the last attempt took this many milliseconds or longer.
            #[schema(minimum = 0, maximum = 2_147_483_647, nullable = false, example = 1000)]
            min_duration_ms: Option<u32>,
            $($extra)*
            /// If true, the deliveries are only counted; false by default.
            #[schema(example = false, nullable = false)]
            dry_run: Option<bool>,
        }
    };
}

replay_body! {
    /// The deliveries of a subscription that a replay sends.
    ReplayBody as NewReplay like {"since": "2025-12-21T10:30:00Z", "status": "exhausted"} {}
}

replay_body! {
    /// The deliveries of an organization that a replay sends.
    OrganizationReplayBody as NewOrganizationReplay like {"status": ["pending"], "response_status": "5xx"} {
        /// Only deliveries to this subscription.
        #[schema(minimum = 1, nullable = false, example = 7)]
        subscription_id: Option<i64>,
    }
}

/// The events that a subscription missed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMissingReplay)]
pub(crate) struct MissingReplayBody {
    /// Only events received at this time or later.
    #[schema(format = DateTime, nullable = false, example = "2025-12-21T10:30:00Z")]
    since: Option<String>,
    /// Only events received before this time. A replay never includes events received after its request.
    #[schema(format = DateTime, nullable = false, example = "2025-12-22T10:30:00Z")]
    until: Option<String>,
    /// Only events of these types, each at most once.
    #[schema(min_items = 1, nullable = false)]
    event_types: Option<BTreeSet<EventTypeName>>,
    /// If true, the events are only counted; false by default.
    #[schema(example = false, nullable = false)]
    dry_run: Option<bool>,
}

fn one() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(STATUSES))
}

/// One status, or several.
fn status() -> Schema {
    let several = ArrayBuilder::new()
        .items(one())
        .min_items(Some(1))
        .unique_items(true);
    OneOfBuilder::new()
        .description(Some(
            "Only deliveries with this status, or with one of these; by default `exhausted` and `skipped`",
        ))
        .item(one())
        .item(several)
        .examples([json!("exhausted")])
        .into()
}

/// The same in a response, or null.
pub(crate) fn shown_status() -> Schema {
    OneOfBuilder::new()
        .description(Some(
            "Only this status, or one of these; null for `exhausted` and `skipped`",
        ))
        .item(one())
        .item(ArrayBuilder::new().items(one()))
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .examples([json!("exhausted")])
        .into()
}
