//! Bodies of requests.

use std::collections::BTreeSet;

use hookline_core::headers::MAX_HEADERS;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};

use super::EventTypeName;

/// The body of `POST /webhooks`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSubscription)]
pub(crate) struct NewSubscriptionBody {
    /// 1 to 255 characters, no control characters.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        example = "Billing"
    )]
    name: String,
    /// At most 2,048 characters: absolute, `https` only, without credentials and fragment.
    #[schema(
        max_length = 2048,
        format = "uri",
        example = "https://example.com/hooks"
    )]
    url: String,
    /// One or more event types, each at most once.
    #[schema(min_items = 1, max_items = 6)]
    events: BTreeSet<EventTypeName>,
    /// The key that signs every request, 1 to 255 characters. The text after `whsec_` must be base64.
    #[schema(
        min_length = 1,
        max_length = 255,
        nullable = false,
        example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    )]
    secret: Option<String>,
    /// At most 20 headers, which every request has.
    #[schema(schema_with = custom_headers)]
    headers: Option<Value>,
    /// Whether the subscription is active; true by default.
    #[schema(example = true, nullable = false)]
    is_active: Option<bool>,
}

/// The body of `PATCH /webhooks/{id}`. An absent field does not change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SubscriptionPatch, example = json!({"is_active": true}))]
pub(crate) struct SubscriptionPatchBody {
    /// 1 to 255 characters, no control characters.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        nullable = false
    )]
    name: Option<String>,
    /// The new target, with the rules of `POST /webhooks`.
    #[schema(max_length = 2048, format = "uri", nullable = false)]
    url: Option<String>,
    /// One or more event types, each at most once. They replace the old ones.
    #[schema(min_items = 1, max_items = 6, nullable = false)]
    events: Option<BTreeSet<EventTypeName>>,
    /// The new secret; null removes the secret.
    #[schema(min_length = 1, max_length = 255)]
    secret: Option<String>,
    /// The new headers, which replace all old ones.
    #[schema(schema_with = custom_headers)]
    headers: Option<Value>,
    /// True activates the subscription and clears `disabled_reason`.
    #[schema(nullable = false)]
    is_active: Option<bool>,
}

/// The description names the reserved names, which the schema cannot express.
fn custom_headers() -> Schema {
    let text = |pattern: &str| {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(pattern))
    };
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(
            "Headers that every request has, at most 20 and 8 KiB in total. Names that Hookline sets are not allowed",
        ))
        .property_names(Some(text("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")))
        .additional_properties(Some(text("^([!-~]([ -~\\t]*[!-~])?)?$")))
        .max_properties(Some(MAX_HEADERS))
        .examples([json!({"X-Team": "billing"})])
        .into()
}

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

fn replayable_status() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(
            "Only deliveries with this status; by default `exhausted` and `skipped`",
        ))
        .enum_values(Some(["delivered", "exhausted", "skipped"]))
        .examples([json!("exhausted")])
        .into()
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

/// The body of a call without fields.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NoFields, example = json!({}))]
pub(crate) struct NoFieldsBody {}

/// The deliveries of a subscription that a replay restarts.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewReplay)]
pub(crate) struct ReplayBody {
    /// Only deliveries created at this time or later.
    #[schema(format = DateTime, nullable = false, example = "2025-12-21T10:30:00Z")]
    since: Option<String>,
    /// Only deliveries created before this time. A replay never includes deliveries created after its request.
    #[schema(format = DateTime, nullable = false, example = "2025-12-22T10:30:00Z")]
    until: Option<String>,
    #[schema(schema_with = replayable_status)]
    status: Option<String>,
    /// Only deliveries of these event types, each at most once.
    #[schema(min_items = 1, max_items = 6, nullable = false)]
    event_types: Option<BTreeSet<EventTypeName>>,
    /// If true, the deliveries are only counted; false by default.
    #[schema(example = false, nullable = false)]
    dry_run: Option<bool>,
}
