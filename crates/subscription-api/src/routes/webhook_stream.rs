//! All subscriptions of an organization as one answer. It may list a million of them, so it reads page after page
//! while it writes, and holds one page in memory.
//!
//! The status is sent before the last page is read. An error in between ends the connection without the last chunk
//! (RFC 9112, 8), so an incomplete answer never looks like a complete one.

use std::time::Duration;

use actix_web::HttpResponse;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::try_unfold;
use hookline_core::ids::SubscriptionId;
use hookline_core::subscription::Subscription;
use hookline_store::{Window, of_key};

use crate::error::ApiError;
use crate::extract::caller::Caller;
use crate::routes::webhooks::ListedSubscription;
use crate::state::AppState;

/// How many subscriptions are read at once.
pub(crate) const AT_ONCE: u32 = 100;

/// Reads the page of subscriptions older than the given one.
type Read = Box<dyn Fn(SubscriptionId) -> LocalBoxFuture<'static, Result<Page, ApiError>>>;
type Page = Vec<Subscription>;

/// An answer that is being written.
struct Writing {
    read: Read,
    offset: u64,
    written: u64,
    next: Next,
}

enum Next {
    Write(Page),
    ReadBefore(SubscriptionId),
    End,
}

/// The answer whose first page was read after `offset` subscriptions.
pub(crate) fn answer(service: &AppState, caller: Caller, first: Page, offset: u64) -> HttpResponse {
    let (api, deadline) = (service.api.clone(), service.api.settings.request_deadline);
    let read = move |before| {
        let window = Window {
            limit: AT_ONCE,
            offset: 0,
            before: Some(before),
        };
        let (store, organization) = (api.store.clone(), caller.organization.clone());
        let page = async move { store.subscriptions(organization, window).await };
        in_time(deadline, of_key(caller.key, page)).boxed_local()
    };
    streamed(Box::new(read), first, offset)
}

async fn in_time(
    deadline: Duration,
    page: impl Future<Output = Result<Page, hookline_store::StoreError>>,
) -> Result<Page, ApiError> {
    let page = tokio::time::timeout(deadline, page).await;
    Ok(page.map_err(|_| ApiError::DeadlinePassed)??)
}

fn streamed(read: Read, first: Page, offset: u64) -> HttpResponse {
    let writing = Writing {
        read,
        offset,
        written: 0,
        next: Next::Write(first),
    };
    HttpResponse::Ok()
        .content_type("application/json")
        .streaming(try_unfold(writing, step))
}

/// The next bytes. `total` is known at the end: it is what was written.
async fn step(mut writing: Writing) -> Result<Option<(Bytes, Writing)>, ApiError> {
    let page = match writing.next {
        Next::Write(page) => page,
        Next::ReadBefore(id) => (writing.read)(id).await.inspect_err(|why| {
            let error = why.cause().unwrap_or("the deadline has passed");
            tracing::warn!(
                error,
                written = writing.written,
                "cut off a list of subscriptions"
            );
        })?,
        Next::End => return Ok(None),
    };
    let mut json = match writing.written {
        0 => b"{\"webhooks\":[".to_vec(),
        _ => Vec::new(),
    };
    for subscription in &page {
        if writing.written > 0 {
            json.push(b',');
        }
        serde_json::to_writer(&mut json, &ListedSubscription::from(subscription))
            .map_err(|why| ApiError::Internal(why.to_string()))?;
        writing.written += 1;
    }
    writing.next = match page.last() {
        Some(last) if page.len() >= AT_ONCE as usize => Next::ReadBefore(last.id),
        _ => {
            let (total, offset) = (writing.offset + writing.written, writing.offset);
            let end = format!(
                "],\"total\":{total},\"limit\":{total},\"offset\":{offset},\"next_cursor\":null}}"
            );
            json.extend_from_slice(end.as_bytes());
            Next::End
        }
    };
    Ok(Some((json.into(), writing)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use actix_web::{App, HttpServer, web};
    use hookline_core::event_type::{EventType, EventTypes};
    use hookline_core::ids::OrganizationId;
    use hookline_core::subscription::{Status, SubscriptionName};
    use hookline_core::target::TargetUrl;
    use hookline_core::timestamp::Timestamp;

    use super::*;

    /// A page that ends before this id.
    fn page(before: i64) -> Page {
        let subscription = |id| Subscription {
            id: SubscriptionId(id),
            organization: OrganizationId::parse("a").unwrap(),
            name: SubscriptionName::from_store("n"),
            url: TargetUrl::from_store("https://example.com"),
            events: EventTypes::new(vec![EventType::WorkflowFailed]).unwrap(),
            has_secret: false,
            header_names: Vec::new(),
            status: Status::Active,
            created_at: Timestamp::from_unix_micros(0),
            updated_at: Timestamp::from_unix_micros(0),
            version: id,
        };
        let first = (before - i64::from(AT_ONCE)).max(1);
        (first..before).rev().map(subscription).collect()
    }

    /// What a client gets of 250 subscriptions, where the store fails below the given id.
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
                // A connection that is cut off may end with a reset.
                let _ = stream.read_to_end(&mut received);
                String::from_utf8(received).unwrap()
            });
            let received = asked.await.unwrap();
            handle.stop(false).await;
            received
        })
    }

    #[test]
    fn a_list_that_the_store_cuts_off_has_no_last_chunk() {
        let whole = received(0);
        assert!(whole.contains(r#"],"total":250,"limit":250,"offset":0,"next_cursor":null}"#));
        assert!(whole.ends_with("\r\n0\r\n\r\n"));
        let cut_off = received(100);
        assert!(cut_off.starts_with("HTTP/1.1 200 OK"), "{cut_off}");
        assert!(cut_off.contains(r#""id":151,"#), "the first page was sent");
        assert!(!cut_off.ends_with("0\r\n\r\n"), "it looks complete");
        assert!(!cut_off.contains("total"));
    }
}
