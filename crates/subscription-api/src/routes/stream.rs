//! Live streams (Server-Sent Events, the HTML standard, 9.2).

mod events;

use std::time::Duration;

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures::stream::try_unfold;
use hookline_core::cursor::{CursorKind, CursorScope};
use hookline_core::ids::{KeyId, OrganizationId};
use hookline_core::violations::Violations;
use hookline_runtime::http::HttpConnection;
use hookline_store::{AttemptStatus, LogPlace, with_key};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::extract::filter::filter;
use crate::extract::query::Query;
use crate::live::reader::Reader;
use crate::live::{EVENT_STREAM, StreamLimit};
use crate::state::AppState;

pub(crate) use events::{DeliveryEvent, DroppedEvent, SubscriptionEvent};

/// The time between two comments, so that proxies keep the connection.
const COMMENT: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: &str = "Last-Event-ID";

/// Follow attempts, ends of deliveries and changes of subscriptions as they happen.
///
/// Server-Sent Events of the types `attempt` (an `Attempt` without bodies), `delivery` (`DeliveryEvent`: a delivery has
/// ended), `subscription` (`SubscriptionEvent`) and `dropped` (`DroppedEvent`: retention has removed rows before the stream
/// came to them). With `Last-Event-ID`, the stream goes on after that event and misses nothing; it may repeat events. The
/// filter selects attempts. A `delivery` without an attempt and a `subscription` have no attempt, so a condition on it
/// excludes them. A comment comes every 15 seconds. An organization has a limited number of open streams (by default 100 in
/// each process): 429 beyond.
#[utoipa::path(
    get, path = "/stream", tag = "Logs", operation_id = "stream",
    params(
        crate::schemas::parameters::StreamParameters,
        crate::schemas::parameters::FilterParameters,
        crate::schemas::parameters::LastEventIdParameter,
    ),
    responses((
        status = 200, description = "Events, until the client or the service ends the stream", body = String,
        content_type = "text/event-stream",
        example = "event: attempt\ndata: {\"id\":\"…\",\"event_type\":\"workflow.completed\",\"status\":\"success\"}\nid: …\n\n",
    )),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn follow(
    caller: Caller,
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = cursors(&caller.organization, request.query_string());
    let mut query = Query::read(request.query_string());
    let filter = filter(&mut query, |name| {
        AttemptStatus::parse(name).ok_or("must be success or failed")
    });
    let after = last_event_id(request.headers(), list, &mut query.violations);
    query.finish()?;
    let stream = state
        .live
        .open(caller.organization.clone(), caller.key)
        .map_err(|limit| match limit {
            StreamLimit::Organization => ApiError::TooManyStreams,
            StreamLimit::Process => ApiError::Unavailable("too many streams are open".to_owned()),
        })?;
    let ended = stream.ended.clone();
    let store = state.api.store.clone();
    let mut reader = Reader::new(stream, store.clone(), filter, after).await;
    let mut begin = String::from("retry: 1000\n\n");
    if let Some(place) = after {
        if !reader.begin_log().await? {
            return Err(ApiError::Invalid(not_of_this_stream()));
        }
        if let Some(removed) = store.removed_after(caller.organization, place).await? {
            events::dropped(&mut begin, list, place, removed)?;
        }
    }
    events::place(&mut begin, list, reader.place());
    let mut comments = interval(COMMENT);
    comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    comments.reset();
    let body = StreamBody {
        begin: Some(begin),
        reader,
        list,
        comments,
        end: StreamEnd {
            ended,
            connection: request.conn_data::<HttpConnection>().cloned(),
        },
        key: caller.key,
    };
    Ok(HttpResponse::Ok()
        .content_type(EVENT_STREAM)
        // nginx would collect the events.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(try_unfold(body, step)))
}

/// The cursors of a stream belong to its organization and its filter, in any order of the parameters.
fn cursors(organization: &OrganizationId, query: &str) -> CursorScope {
    let mut given: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    given.sort_unstable();
    let filter: Vec<String> = given
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    CursorKind::Tail.of(organization, &filter.join("&"))
}

fn last_event_id(
    headers: &HeaderMap,
    list: CursorScope,
    violations: &mut Violations,
) -> Option<LogPlace> {
    let mut all = headers.get_all(LAST_EVENT_ID);
    let first = all.next()?;
    let text = first.to_str().ok().filter(|_| all.next().is_none());
    let cursor = text.and_then(|text| list.parse(text).ok());
    if cursor.is_none() {
        violations.add(LAST_EVENT_ID, OF_ANOTHER_STREAM);
    }
    cursor.map(LogPlace::of_cursor)
}

const OF_ANOTHER_STREAM: &str =
    "must be the id of an event of an earlier stream with the same filter and organization";

fn not_of_this_stream() -> Violations {
    let mut violations = Violations::default();
    violations.add(LAST_EVENT_ID, OF_ANOTHER_STREAM);
    violations
}

struct StreamBody {
    begin: Option<String>,
    reader: Reader,
    list: CursorScope,
    comments: Interval,
    end: StreamEnd,
    key: KeyId,
}

/// What ends a stream.
struct StreamEnd {
    ended: CancellationToken,
    connection: Option<HttpConnection>,
}

impl StreamEnd {
    async fn wait(&self) {
        let closed = async {
            match &self.connection {
                Some(connection) => connection.closed_by_client().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = closed => {}
        }
    }
}

/// The next bytes. A failure of the store ends the connection without the last chunk, and the client comes back.
async fn step(mut body: StreamBody) -> Result<Option<(Bytes, StreamBody)>, ApiError> {
    let mut text = body.begin.take().unwrap_or_default();
    while text.is_empty() {
        tokio::select! {
            biased;
            () = body.end.wait() => return Ok(None),
            _ = body.comments.tick() => {
                text.push_str(":\n");
                events::place(&mut text, body.list, body.reader.place());
            }
            rows = with_key(body.key, body.reader.next()) => {
                let rows = rows.inspect_err(|why| {
                    tracing::debug!(error = %why, "ended a stream that cannot read the log");
                })?;
                for (row, place) in &rows {
                    events::write(&mut text, body.list, row, *place)?;
                }
            }
        }
    }
    Ok(Some((text.into(), body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_belongs_to_a_filter_in_any_order_and_to_an_organization() {
        let of = |organization: &str, query: &str| {
            let organization = OrganizationId::parse(organization).unwrap();
            cursors(&organization, query)
        };
        let text = of("a", "status=failed&event_type=x").text(LogPlace::before(7).cursor());
        let reads = |organization, query| of(organization, query).parse(&text).is_ok();
        assert!(reads("a", "event_type=x&status=failed"));
        assert!(!reads("a", "event_type=x"));
        assert!(!reads("a", ""));
        assert!(!reads("b", "event_type=x&status=failed"));
    }
}
