//! Bodies of requests.

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};

use super::EventTypeName;

/// The body of `POST /webhooks/{id}/secret/rotate`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SecretRotation, example = json!({"overlap_seconds": 86400}))]
pub(crate) struct SecretRotationBody {
    /// The new secret, 1 to 255 characters. Without it, Hookline generates one.
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    secret: Option<String>,
    /// The seconds for which the old secret signs, too: 0 to 604800 (7 days), by default 86400 (1 day).
    #[schema(minimum = 0, maximum = 604800, example = 86400, nullable = false)]
    overlap_seconds: Option<u32>,
}

/// The body of `POST /events`: one event, or an array of at most 1,000.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Events)]
pub(crate) enum EventsBody {
    #[schema(title = "one")]
    One(EventBody),
    #[schema(title = "many")]
    Many(EventList),
}

/// 1 to 1,000 events.
#[derive(Deserialize, ToSchema)]
#[schema(as = EventList, min_items = 1, max_items = 1000)]
pub(crate) struct EventList(Vec<EventBody>);

/// An event. `data` reaches receivers byte for byte.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Event)]
pub(crate) struct EventBody {
    /// Unique in the organization. Without it, Hookline generates one.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        nullable = false,
        example = "evt_abc123"
    )]
    event_id: Option<String>,
    event_type: EventTypeName,
    /// The id of the workflow run.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        example = "wf_xyz789"
    )]
    workflow_id: String,
    /// The organization of the request; another one is 403.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        example = "org_123"
    )]
    organization_id: String,
    /// The time of the event.
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    timestamp: String,
    #[schema(schema_with = event_data)]
    data: Value,
}

fn event_data() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some("Any JSON object. Receivers get the same bytes"))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
        .examples([json!({"order": 7})])
        .into()
}

/// The event of a test call.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TestCall, example = json!({"event_type": "workflow.failed", "data": {"order": 7}}))]
pub(crate) struct TestCallBody {
    /// The type of the event; by default `workflow.completed`.
    #[schema(nullable = false)]
    event_type: Option<EventTypeName>,
    #[schema(schema_with = event_data)]
    data: Option<Value>,
}

/// The body of `POST /deliveries/{id}/retry`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Retry, example = json!({"now": true}))]
pub(crate) struct RetryBody {
    /// Whether a successful delivery is sent again; true by default.
    #[schema(nullable = false)]
    force: Option<bool>,
    /// Whether the next attempt of a pending delivery is made now; false by default.
    #[schema(nullable = false)]
    now: Option<bool>,
}

/// The body of a call without fields.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NoFields, example = json!({}))]
pub(crate) struct NoFieldsBody {}
