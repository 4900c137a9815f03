//! All subscriptions of an organization in one streamed response. There may be a million, so it reads and writes page after
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
use hookline_core::subscription::Subscription;
use hookline_store::{SubscriptionWindow, with_key};

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::routes::subscription_json::ListedSubscription;
use crate::state::AppState;

/// Subscriptions of one read.
pub(crate) const BATCH_SIZE: u32 = 100;

/// Reads the page of subscriptions that are older than the given one.
type Read = Box<dyn Fn(SubscriptionId) -> LocalBoxFuture<'static, Result<Batch, ApiError>>>;
type Batch = Vec<Subscription>;

/// The state of a streamed response.
struct StreamState {
    read: Read,
    offset: u64,
    written: u64,
    next: Next,
}

enum Next {
    Write(Batch),
    ReadBefore(SubscriptionId),
    End,
}

/// A response that starts with a page read at `offset`.
pub(crate) fn respond(state: &AppState, caller: Caller, first: Batch, offset: u64) -> HttpResponse {
    let (api, deadline) = (state.api.clone(), state.api.config.request_deadline);
    let read = move |before| {
        let window = SubscriptionWindow {
            limit: BATCH_SIZE,
            offset: 0,
            before: Some(before),
        };
        let (store, organization) = (api.store.clone(), caller.organization.clone());
        let page = async move { store.subscriptions(organization, window).await };
        in_time(deadline, with_key(caller.key, page)).boxed_local()
    };
    streamed(Box::new(read), first, offset)
}

async fn in_time(
    deadline: Duration,
    page: impl Future<Output = Result<Batch, hookline_store::StoreError>>,
) -> Result<Batch, ApiError> {
    let page = tokio::time::timeout(deadline, page).await;
    Ok(page.map_err(|_| ApiError::DeadlinePassed)??)
}

fn streamed(read: Read, first: Batch, offset: u64) -> HttpResponse {
    let stream = StreamState {
        read,
        offset,
        written: 0,
        next: Next::Write(first),
    };
    HttpResponse::Ok()
        .content_type("application/json")
        .streaming(try_unfold(stream, step))
}

/// The next bytes. `total` is at the end, because it counts the written rows.
async fn step(mut stream: StreamState) -> Result<Option<(Bytes, StreamState)>, ApiError> {
    let page = match stream.next {
        Next::Write(page) => page,
        Next::ReadBefore(id) => (stream.read)(id).await.inspect_err(|why| {
            let error = why.cause().unwrap_or("the deadline has passed");
            tracing::warn!(error, written = stream.written, "aborted subscription list");
        })?,
        Next::End => return Ok(None),
    };
    let mut json = match stream.written {
        0 => b"{\"webhooks\":[".to_vec(),
        _ => Vec::new(),
    };
    for subscription in &page {
        if stream.written > 0 {
            json.push(b',');
        }
        serde_json::to_writer(&mut json, &ListedSubscription::from(subscription))
            .map_err(|why| ApiError::Internal(why.to_string()))?;
        stream.written += 1;
    }
    stream.next = match page.last() {
        Some(last) if page.len() >= BATCH_SIZE as usize => Next::ReadBefore(last.id),
        _ => {
            let (total, offset) = (stream.offset + stream.written, stream.offset);
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
    fn page(before: i64) -> Batch {
        let first = (before - i64::from(BATCH_SIZE)).max(1);
        (first..before).rev().map(subscription).collect()
    }

    /// The response of 250 subscriptions, where the store fails below the given id.
    fn received(fails_below: i64) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let system = actix_web::rt::System::new();
        system.block_on(async move {
            let answer = move || async move {
                let read = move |SubscriptionId(before)| {
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
