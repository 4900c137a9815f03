//! The log's messages about receivers with one fault each, over real sockets.

mod certificates;
mod http;
mod log;
mod protocols;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use hookline_core::http_log::{HeaderLog, HttpLog};
use hookline_core::outcome::{AttemptOutcome, FailureKind, RequestFailure};
use hookline_core::target::{Networks, Ports, Schemes, TargetRules, TargetUrl};
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A requester that may call anything, and trusts the certificates of a file.
fn requester(extra_ca_file: Option<PathBuf>) -> Requester {
    requester_within(Duration::from_secs(15), extra_ca_file)
}

fn requester_within(deadline: Duration, extra_ca_file: Option<PathBuf>) -> Requester {
    let rules = TargetRules {
        schemes: Schemes::HttpToo,
        networks: Networks::Any,
        ports: Ports::Any,
    };
    Requester::new(&Policy {
        schedule: Default::default(),
        rules,
        name_servers: Vec::new(),
        extra_ca_file,
        origin_rate: None,
        deadline,
        slots: 1,
        may_wait: 1,
        give_up_after: 1,
        breaker_failures: 1,
        body_cache_bytes: 0,
        failing_after: None,
    })
    .unwrap()
}

async fn attempt(requester: &Requester, url: &str) -> AttemptOutcome {
    let credentials = Credentials {
        secrets: None,
        headers: Default::default(),
    };
    attempt_with(requester, url, &credentials).await.outcome
}

async fn attempt_with(
    requester: &Requester,
    url: &str,
    credentials: &Credentials,
) -> FinishedRequest {
    let request = WebhookRequest {
        delivery: DeliveryId(Default::default()),
        attempt: 1,
        event_type: EventType::parse("workflow.completed").unwrap(),
        url: &TargetUrl::from_store(url),
        credentials,
        trace: TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .unwrap(),
        now: Timestamp::from_unix_micros(0),
        body: Bytes::from_static(b"{}"),
    };
    requester.send(request).await
}

/// A loopback port that gives each connection to `behaviour`.
async fn receiver<F, Fut>(behaviour: F) -> u16
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(behaviour(connection));
        }
    });
    port
}

/// Reads the request, writes these bytes and closes.
async fn start_receiver(answer: impl Into<Bytes>) -> u16 {
    let answer = answer.into();
    receiver(move |mut connection| {
        let answer = answer.clone();
        async move {
            read_request(&mut connection).await;
            let _ = connection.write_all(&answer).await;
            let _ = connection.shutdown().await;
        }
    })
    .await
}

async fn read_request(connection: &mut (impl AsyncRead + Unpin)) {
    let mut request = Vec::new();
    while !request.ends_with(b"{}") {
        if connection.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// The kind and the message of a failure without a response.
fn failure(outcome: AttemptOutcome) -> (FailureKind, String) {
    let AttemptOutcome::Failed(RequestFailure { kind, message, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(message.len() <= 500 && message.is_ascii(), "{message}");
    assert!(!message.contains("127.0.0.1"), "{message}");
    (kind, message)
}
