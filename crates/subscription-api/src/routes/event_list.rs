//! The events of an organization, newest first.

use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::cursor::CursorKind;
use hookline_store::{EventQuery, ListedEvent};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::extract::filter::{Include, filter, include};
use crate::extract::query::Query;
use crate::routes::body_text::{BodyText, is_cut};
use crate::routes::deliveries::delivery_status;
use crate::routes::page::Page;
use crate::routes::response_size::{MAX_BYTES, Truncate};
use crate::state::AppState;

/// An event in a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListedEvent)]
pub(crate) struct ListedEventResponse {
    #[schema(example = "evt_abc123")]
    event_id: String,
    #[schema(example = "workflow.completed")]
    event_type: &'static str,
    /// Null only if a version before this one stored the event during an upgrade.
    #[schema(required = true, example = "wf_xyz789")]
    workflow_id: Option<String>,
    /// When Hookline stored it.
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    received_at: String,
    /// With `include=bodies`, the body that receivers get. If `truncated` is true, only its prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    body: Option<BodyText>,
    /// With `include=bodies`, true if `body` is cut, because the page would exceed 1 MiB. `GET /events/{event_id}` has
    /// the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool)]
    truncated: Option<bool>,
}

impl From<ListedEvent> for ListedEventResponse {
    fn from(event: ListedEvent) -> Self {
        Self {
            event_id: event.event_id.as_str().to_owned(),
            event_type: event.event_type.as_str(),
            workflow_id: event.workflow.map(|workflow| workflow.as_str().to_owned()),
            received_at: event.received_at.to_string(),
            truncated: is_cut(event.body.as_ref()),
            body: event.body.map(BodyText::from),
        }
    }
}

impl Truncate for ListedEventResponse {
    fn is_truncated(&self) -> bool {
        self.truncated == Some(true)
    }

    fn truncate(&mut self, bytes: usize) {
        if let Some(body) = &mut self.body {
            body.truncate(bytes);
            self.truncated = Some(true);
        }
    }
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventPage {
    /// Newest first. With filters, a page may have fewer rows than `limit`, or none: then it has `searched_until`. With
    /// bodies and a cursor, also because a page is at most 1 MiB.
    #[schema(value_type = Vec<ListedEventResponse>)]
    events: Vec<Box<RawValue>>,
    /// Always null: a count would read all events.
    #[schema(required = true)]
    total: Option<u64>,
    /// Rows of a page: the given value, or 50.
    limit: u32,
    /// The given value; 0 with a cursor.
    offset: u64,
    /// The `cursor` of the next page; null on the last page.
    #[schema(required = true)]
    next_cursor: Option<String>,
    /// The time down to which a page was searched that ended early; the next page goes on there. Null on other pages.
    #[schema(format = DateTime, required = true)]
    searched_until: Option<String>,
}

/// List the events of an organization, tests included.
///
/// `status`, `subscription_id`, `response_status`, `error_kind`, `attempt` and `min_duration_ms` are conditions on
/// deliveries: one delivery of the event meets all that are given.
#[utoipa::path(
    get, path = "/events", tag = "Events", operation_id = "listEvents",
    params(
        crate::schemas::parameters::EventParameters,
        crate::schemas::parameters::FilterParameters,
        crate::schemas::parameters::IncludeParameter,
    ),
    responses((status = 200, description = "A page of events", body = EventPage)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn list(
    caller: Caller,
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = CursorKind::Events.of(&caller.organization, "");
    let mut query = Query::read(request.query_string());
    let filter = filter(&mut query, delivery_status);
    let include = include(&mut query, Include::Nothing);
    let page = Page::parse(&mut query, list);
    query.finish()?;
    let query = EventQuery {
        organization: caller.organization,
        filter,
        limit: page.to_read(),
        start: page.start,
        body_bytes: (include == Include::Bodies).then_some(MAX_BYTES),
    };
    let mut found = state.api.store.events(query).await?;
    let next_cursor = page.cut(&mut found, ListedEvent::cursor);
    let rows = found.rows.into_iter();
    let rows = rows.map(|event| (event.cursor(), ListedEventResponse::from(event)));
    let (events, next_cursor) = page.show(rows, next_cursor);
    Ok(HttpResponse::Ok().json(EventPage {
        events,
        total: None,
        limit: page.limit,
        offset: page.offset(),
        next_cursor,
        searched_until: found.searched.map(|end| end.created_at.to_string()),
    }))
}
