//! All subscriptions of an organization, or all that a filter selects, in one streamed response. There may be a million, so it reads and writes page after
//! page, and holds one page in memory.
//!
//! The status is sent before the last page is read. An error after that closes the connection without the last chunk
//! (RFC 9112, 8), so a client can tell that the response is incomplete.

use std::time::Duration;

use actix_web::HttpResponse;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::try_unfold;
use hookline_core::ids::SubscriptionId;
use hookline_store::{FoundSubscriptions, SubscriptionFilter, SubscriptionWindow, with_key};

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::routes::subscription_json::ListedSubscription;
use crate::state::AppState;

/// Subscriptions of one read.
pub(crate) const BATCH_SIZE: u32 = 100;

/// Reads the page of subscriptions at a place.
type Read = Box<dyn Fn(Place) -> LocalBoxFuture<'static, Result<FoundSubscriptions, ApiError>>>;

/// The rows of a response.
pub(crate) struct Selection {
    pub(crate) filter: SubscriptionFilter,
    pub(crate) offset: u64,
}

/// The start of the next page.
#[derive(Clone, Copy)]
struct Place {
    before: SubscriptionId,
    /// Selected rows that the pages before have not skipped yet.
    offset: u64,
}

/// The state of a streamed response.
struct StreamState {
    read: Read,
    offset: u64,
    /// Selected rows that were skipped.
    skipped: u64,
    written: u64,
    begun: bool,
    next: Next,
}

enum Next {
    Write(FoundSubscriptions),
    Read(Place),
    End,
}

/// A response that starts with a page read at the offset.
pub(crate) fn respond(
    state: &AppState,
    caller: Caller,
    selection: Selection,
    first: FoundSubscriptions,
) -> HttpResponse {
    let (api, deadline) = (state.api.clone(), state.api.config.request_deadline);
    let Selection { filter, offset } = selection;
    let read = move |place: Place| {
        let window = SubscriptionWindow {
            limit: BATCH_SIZE,
            offset: place.offset,
            before: Some(place.before),
        };
        let (store, organization) = (api.store.clone(), caller.organization.clone());
        let filter = filter.clone();
        let page = async move { store.subscriptions(organization, &filter, window).await };
        in_time(deadline, with_key(caller.key, page)).boxed_local()
    };
    streamed(Box::new(read), first, offset)
}

async fn in_time(
    deadline: Duration,
    page: impl Future<Output = Result<FoundSubscriptions, hookline_store::StoreError>>,
) -> Result<FoundSubscriptions, ApiError> {
    let page = tokio::time::timeout(deadline, page).await;
    Ok(page.map_err(|_| ApiError::DeadlinePassed)??)
}

fn streamed(read: Read, first: FoundSubscriptions, offset: u64) -> HttpResponse {
    let stream = StreamState {
        read,
        offset,
        skipped: 0,
        written: 0,
        begun: false,
        next: Next::Write(first),
    };
    HttpResponse::Ok()
        .content_type("application/json")
        .streaming(try_unfold(stream, step))
}

/// The next bytes. `total` is at the end, because it counts the written rows.
async fn step(mut stream: StreamState) -> Result<Option<(Bytes, StreamState)>, ApiError> {
    let found = match stream.next {
        Next::Write(found) => found,
        Next::Read(place) => (stream.read)(place).await.inspect_err(|why| {
            let error = why.cause().unwrap_or("the deadline has passed");
            tracing::warn!(error, written = stream.written, "aborted subscription list");
        })?,
        Next::End => return Ok(None),
    };
    let mut json = match stream.begun {
        false => b"{\"webhooks\":[".to_vec(),
        true => Vec::new(),
    };
    stream.begun = true;
    for subscription in &found.rows {
        if stream.written > 0 {
            json.push(b',');
        }
        serde_json::to_writer(&mut json, &ListedSubscription::from(subscription))
            .map_err(|why| ApiError::Internal(why.to_string()))?;
        stream.written += 1;
    }
    stream.skipped += found.skipped;
    let is_full = found.rows.len() >= BATCH_SIZE as usize;
    let last = found.rows.last().filter(|_| is_full).map(|last| last.id);
    stream.next = match last.or(found.searched) {
        Some(before) => Next::Read(Place {
            before,
            offset: stream.offset.saturating_sub(stream.skipped),
        }),
        None => {
            let (total, offset) = (stream.skipped + stream.written, stream.offset);
            let end = format!(
                "],\"total\":{total},\"limit\":{total},\"offset\":{offset},\"next_cursor\":null}}"
            );
            json.extend_from_slice(end.as_bytes());
            Next::End
        }
    };
    Ok(Some((json.into(), stream)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use actix_web::{App, HttpServer, web};

    use super::*;
    use crate::routes::subscription_json::tests::subscription;

    /// The page before this id.
    fn page(before: i64) -> FoundSubscriptions {
        let first = (before - i64::from(BATCH_SIZE)).max(1);
        FoundSubscriptions {
            rows: (first..before).rev().map(subscription).collect(),
            skipped: 0,
            searched: None,
        }
    }

    /// The response of 250 subscriptions, where the store fails below the given id.
    fn received(fails_below: i64) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let system = actix_web::rt::System::new();
        system.block_on(async move {
            let answer = move || async move {
                let read = move |Place { before, .. }| {
                    let SubscriptionId(before) = before;
                    let away = || ApiError::Unavailable("the store is away".to_owned());
                    let found = (before >= fails_below).then(|| page(before));
                    async move { found.ok_or_else(away) }.boxed_local()
                };
                streamed(Box::new(read), page(251), 0)
            };
            let server = HttpServer::new(move || App::new().route("/", web::get().to(answer)))
                .workers(1)
                .disable_signals()
                .listen(listener)
                .unwrap()
                .run();
            let handle = server.handle();
            actix_web::rt::spawn(server);
            let asked = tokio::task::spawn_blocking(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                let head = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
                stream.write_all(head).unwrap();
                let mut received = Vec::new();
                // An aborted connection may end with a reset.
                let _ = stream.read_to_end(&mut received);
                String::from_utf8(received).unwrap()
            });
            let received = asked.await.unwrap();
            handle.stop(false).await;
            received
        })
    }

    #[test]
    fn a_list_that_a_store_error_aborts_has_no_last_chunk() {
        let whole = received(0);
        assert!(whole.contains(r#"],"total":250,"limit":250,"offset":0,"next_cursor":null}"#));
        assert!(whole.ends_with("\r\n0\r\n\r\n"));
        let aborted = received(100);
        assert!(aborted.starts_with("HTTP/1.1 200 OK"), "{aborted}");
        assert!(aborted.contains(r#""id":151,"#), "the first page was sent");
        assert!(!aborted.ends_with("0\r\n\r\n"), "it looks complete");
        assert!(!aborted.contains("total"));
    }
}
