//! Requests as the document shows them. The core and the routes read the real ones themselves,
//! because only so can they name every bad field at once.
//!
//! A field that may be left out has no `default` here: openapi-typescript makes such a field required.

use std::collections::BTreeSet;

use hookline_core::headers::MAX_HEADERS;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::{IntoParams, ToSchema};

/// The body of `POST /webhooks`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSubscription)]
#[expect(
    dead_code,
    reason = "the document's form; the core reads the body itself"
)]
pub(crate) struct NewSubscriptionBody {
    /// 1 to 255 characters, no control characters.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        example = "Billing"
    )]
    name: String,
    /// Absolute, `https` only, no credentials, no fragment.
    #[schema(
        max_length = 2048,
        format = "uri",
        example = "https://example.com/hooks"
    )]
    url: String,
    /// One or more, none twice.
    #[schema(min_items = 1, max_items = 6)]
    events: BTreeSet<EventTypeName>,
    /// Signs every request. After `whsec_` comes base64.
    #[schema(
        min_length = 1,
        max_length = 255,
        nullable = false,
        example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    )]
    secret: Option<String>,
    /// Sent with every request; at most 20 and 8 KiB in all.
    #[schema(schema_with = custom_headers)]
    headers: Option<Value>,
    /// Whether it begins active; it does unless this is false.
    #[schema(example = true, nullable = false)]
    is_active: Option<bool>,
}

/// The body of `PATCH /webhooks/{id}`; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SubscriptionPatch, example = json!({"is_active": true}))]
#[expect(
    dead_code,
    reason = "the document's form; the core reads the body itself"
)]
pub(crate) struct SubscriptionPatchBody {
    /// A new name.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        nullable = false
    )]
    name: Option<String>,
    /// A new target.
    #[schema(max_length = 2048, format = "uri", nullable = false)]
    url: Option<String>,
    /// A new selection.
    #[schema(min_items = 1, max_items = 6, nullable = false)]
    events: Option<BTreeSet<EventTypeName>>,
    /// A new secret; null removes it.
    #[schema(min_length = 1, max_length = 255)]
    secret: Option<String>,
    /// A new set of headers in place of the old one.
    #[schema(schema_with = custom_headers)]
    headers: Option<Value>,
    /// True clears `disabled_reason`.
    #[schema(nullable = false)]
    is_active: Option<bool>,
}

/// Reserved names aside, which only a sentence can say.
fn custom_headers() -> Schema {
    let text = |pattern: &str| {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(pattern))
    };
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(
            "Sent with every request; at most 8 KiB in all, and no names that Hookline sets",
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
#[expect(
    dead_code,
    reason = "the document's form; the core reads the body itself"
)]
pub(crate) struct SecretRotationBody {
    /// The next secret; without it, one is made.
    #[schema(min_length = 1, max_length = 255, nullable = false)]
    secret: Option<String>,
    /// How long the present secret signs, too; 86400 without it.
    #[schema(minimum = 0, maximum = 604800, example = 86400, nullable = false)]
    overlap_seconds: Option<u32>,
}

/// What happened in a workflow.
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

/// Where a delivery stands.
#[derive(ToSchema)]
#[schema(as = DeliveryStatus, rename_all = "snake_case")]
#[expect(dead_code, reason = "the document's form; the store has its own")]
pub(crate) enum DeliveryStatusName {
    Pending,
    Delivered,
    Exhausted,
    Skipped,
    Cancelled,
}

fn replayable_status() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(
            "`delivered`, `exhausted` or `skipped` alone; else both that the receiver does not have",
        ))
        .enum_values(Some(["delivered", "exhausted", "skipped"]))
        .examples([json!("exhausted")])
        .into()
}

/// What came of an attempt.
#[derive(ToSchema)]
#[schema(as = AttemptStatus, rename_all = "snake_case")]
#[expect(dead_code, reason = "the document's form; the store has its own")]
pub(crate) enum AttemptStatusName {
    Success,
    Failed,
}

/// The body of `POST /events`: one event, or an array of at most 1,000.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Events)]
#[expect(
    dead_code,
    reason = "the document's form; the core reads events itself"
)]
pub(crate) enum EventsBody {
    #[schema(title = "one")]
    One(EventBody),
    #[schema(title = "many")]
    Many(EventList),
}

/// What one request publishes at most.
#[derive(Deserialize, ToSchema)]
#[schema(as = EventList, min_items = 1, max_items = 1000)]
#[expect(
    dead_code,
    reason = "the document's form; the core reads events itself"
)]
pub(crate) struct EventList(Vec<EventBody>);

/// An event. `data` passes byte for byte as it was written.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Event)]
#[expect(
    dead_code,
    reason = "the document's form; the core reads events itself"
)]
pub(crate) struct EventBody {
    /// Unique in its organization; may be left out and is then given.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        nullable = false,
        example = "evt_abc123"
    )]
    event_id: Option<String>,
    /// What happened.
    event_type: EventTypeName,
    /// The run.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        example = "wf_xyz789"
    )]
    workflow_id: String,
    /// The request's organization.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        example = "org_123"
    )]
    organization_id: String,
    /// When it happened.
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    timestamp: String,
    #[schema(schema_with = event_data)]
    data: Value,
}

fn event_data() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some("Any object; it passes byte for byte"))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
        .examples([json!({"order": 7})])
        .into()
}

/// The body of a call that takes no fields.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NoFields, example = json!({}))]
pub(crate) struct NoFieldsBody {}

/// Which deliveries of a subscription are started again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewReplay)]
#[expect(
    dead_code,
    reason = "the document's form; the core reads the body itself"
)]
pub(crate) struct ReplayBody {
    /// Made then or later.
    #[schema(format = DateTime, nullable = false, example = "2025-12-21T10:30:00Z")]
    since: Option<String>,
    /// Made before then; never later than the call.
    #[schema(format = DateTime, nullable = false, example = "2025-12-22T10:30:00Z")]
    until: Option<String>,
    /// `delivered`, `exhausted` or `skipped` alone; else both that the receiver does not have.
    #[schema(schema_with = replayable_status)]
    status: Option<String>,
    /// Of these event types alone; none twice.
    #[schema(min_items = 1, max_items = 6, nullable = false)]
    event_types: Option<BTreeSet<EventTypeName>>,
    /// Whether they are only counted; they are started unless this is true.
    #[schema(example = false, nullable = false)]
    dry_run: Option<bool>,
}

/// The header of a call that creates something.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(
    dead_code,
    reason = "the document's form; the route reads the header itself"
)]
pub(crate) struct IdempotencyParameter {
    /// 1 to 255 visible ASCII characters. A repeat within 24 hours has the effect and the answer of the first request
    /// alone; with another body it is 422.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$",
        nullable = false
    )]
    key: Option<String>,
}

/// The parameters of a page of subscriptions.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "the document's form; the route reads its query itself"
)]
pub(crate) struct SubscriptionParameters {
    /// How many at most; without it, all of them, or 50 with a cursor.
    #[param(minimum = 1, maximum = 100, nullable = false)]
    limit: Option<u32>,
    /// How many to leave out; slower the further it goes.
    #[param(minimum = 0, maximum = 10_000, nullable = false)]
    offset: Option<u64>,
    /// A `next_cursor` of an earlier answer; not together with `offset`.
    #[param(nullable = false, pattern = "^A[w-z0-9_-][A-Za-z0-9_-]{38}$")]
    cursor: Option<String>,
}

/// The parameters of a page of deliveries.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "the document's form; the route reads its query itself"
)]
pub(crate) struct DeliveryParameters {
    /// Of this event type alone.
    #[param(inline, nullable = false)]
    event_type: Option<EventTypeName>,
    /// Of this state alone.
    #[param(inline, nullable = false, example = "pending")]
    status: Option<DeliveryStatusName>,
    /// Made then or later.
    #[param(format = DateTime, nullable = false, example = "2025-12-21T10:30:00Z")]
    since: Option<String>,
    /// Made before then.
    #[param(format = DateTime, nullable = false, example = "2025-12-22T10:30:00Z")]
    until: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 100, default = 50, nullable = false)]
    limit: Option<u32>,
    /// How many to leave out; slower the further it goes.
    #[param(minimum = 0, maximum = 10_000, default = 0, nullable = false)]
    offset: Option<u64>,
    /// A `next_cursor` of an earlier answer; not together with `offset`.
    #[param(nullable = false, pattern = "^A[Q-Za-f][A-Za-z0-9_-]{38}$")]
    cursor: Option<String>,
}

/// The parameters of a delivery's attempts.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "the document's form; the route reads its query itself"
)]
pub(crate) struct AttemptParameters {
    /// How many attempts at most.
    #[param(minimum = 1, maximum = 100, default = 50, nullable = false)]
    attempts_limit: Option<u32>,
    /// A `next_attempts_cursor` of an earlier answer.
    #[param(nullable = false, pattern = "^A[A-P][A-Za-z0-9_-]{38}$")]
    attempts_cursor: Option<String>,
}

/// The parameters of an event's deliveries.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "the document's form; the route reads its query itself"
)]
pub(crate) struct EventDeliveryParameters {
    /// How many subscriptions at most.
    #[param(minimum = 1, maximum = 100, default = 50, nullable = false)]
    deliveries_limit: Option<u32>,
    /// A `next_deliveries_cursor` of an earlier answer.
    #[param(nullable = false, pattern = "^A[g-v][A-Za-z0-9_-]{38}$")]
    deliveries_cursor: Option<String>,
}

/// The parameters of a page of the log.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "the document's form; the log reads its query itself"
)]
pub(crate) struct LogParameters {
    /// Of this event type alone.
    #[param(inline, nullable = false)]
    event_type: Option<EventTypeName>,
    /// With this result alone.
    #[param(inline, nullable = false, example = "failed")]
    status: Option<AttemptStatusName>,
    /// How many at most.
    #[param(minimum = 1, maximum = 100, default = 50, nullable = false)]
    limit: Option<u32>,
    /// How many to leave out; slower the further it goes.
    #[param(minimum = 0, maximum = 10_000, default = 0, nullable = false)]
    offset: Option<u64>,
    /// A `next_cursor` of an earlier answer; not together with `offset`.
    #[param(nullable = false, pattern = "^A[A-P][A-Za-z0-9_-]{38}$")]
    cursor: Option<String>,
}
