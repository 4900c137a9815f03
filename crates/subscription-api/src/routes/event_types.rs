//! The event types, for forms and for code of receivers.

use std::borrow::Cow;
use std::sync::LazyLock;

use actix_web::HttpResponse;
use hookline_core::event_type::EventType;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::extract::caller::Caller;

/// All event types.
#[derive(Serialize, ToSchema)]
#[schema(as = EventTypes)]
pub(crate) struct EventTypesResponse {
    event_types: Vec<EventTypeDetails>,
}

/// An event type.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventTypeDetails {
    #[schema(example = "workflow.completed")]
    event_type: &'static str,
    #[schema(value_type = String, example = "A run of a workflow has ended successfully.")]
    description: Cow<'static, str>,
    /// The JSON Schema (2020-12) of the body that receivers get.
    #[schema(value_type = Object)]
    schema: &'static RawValue,
    /// A body with realistic `data`. The members of `data` are those of the publisher.
    #[schema(value_type = Object)]
    sample: &'static RawValue,
}

/// The members of a JSON Schema that the response shows by themselves.
#[derive(Deserialize)]
struct SchemaNotes<'a> {
    #[serde(borrow)]
    description: Cow<'a, str>,
    #[serde(borrow)]
    examples: Vec<&'a RawValue>,
}

/// List the event types.
///
/// Each with a description, the JSON Schema of the body that receivers get, and a sample of it.
#[utoipa::path(
    get, path = "/event-types", tag = "Events", operation_id = "listEventTypes",
    responses((status = 200, description = "The event types", body = EventTypesResponse)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn list(_: Caller) -> HttpResponse {
    static RESPONSE: LazyLock<EventTypesResponse> = LazyLock::new(|| EventTypesResponse {
        event_types: EventType::ALL.into_iter().filter_map(details).collect(),
    });
    HttpResponse::Ok().json(&*RESPONSE)
}

/// None where the schema file is broken, which a test excludes.
fn details(event_type: EventType) -> Option<EventTypeDetails> {
    let text = event_type.json_schema();
    let notes: SchemaNotes<'static> = serde_json::from_str(text).ok()?;
    Some(EventTypeDetails {
        event_type: event_type.as_str(),
        description: notes.description,
        schema: serde_json::from_str(text).ok()?,
        sample: notes.examples.into_iter().next()?,
    })
}
