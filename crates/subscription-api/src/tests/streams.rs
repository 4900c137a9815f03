//! Live streams over real sockets.

use std::time::Instant;

use hookline_core::timestamp::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connections::{RunningServer, get};
use super::*;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A client that reads a stream.
struct Client {
    socket: TcpStream,
    text: String,
}

impl Client {
    async fn open(served: &RunningServer, last_id: Option<&str>) -> Self {
        let mut head = get("/stream", KEY, "keep-alive");
        if let Some(id) = last_id {
            head = head.replace("\r\n\r\n", &format!("\r\nlast-event-id: {id}\r\n\r\n"));
        }
        let socket = served.sent(head).await;
        let text = String::new();
        let mut client = Self { socket, text };
        client.until("id: ").await;
        assert!(client.text.starts_with("HTTP/1.1 200 "), "{}", client.text);
        client
    }

    /// Reads until the text is there.
    async fn until(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.text.contains(text) {
            let read = timeout(TIMEOUT, self.socket.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("no {text}: {}", self.text));
            let bytes = read.unwrap();
            assert!(bytes > 0, "ended without {text}: {}", self.text);
            self.text
                .push_str(&String::from_utf8_lossy(&buffer[..bytes]));
        }
    }

    /// The last id.
    fn last_id(&self) -> String {
        let (_, rest) = self.text.rsplit_once("id: ").unwrap();
        rest.lines().next().unwrap().to_owned()
    }

    async fn ends(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match timeout(TIMEOUT, self.socket.read(&mut buffer))
                .await
                .unwrap()
            {
                Ok(bytes) if bytes > 0 => {}
                _ => return,
            }
        }
    }
}

/// The head of an answer.
async fn answer(served: &RunningServer, request: String) -> String {
    let mut socket = served.sent(request).await;
    let mut buffer = [0; 4096];
    let read = timeout(TIMEOUT, socket.read(&mut buffer)).await.unwrap();
    String::from_utf8_lossy(&buffer[..read.unwrap()]).into_owned()
}

#[actix_web::test]
async fn an_attempt_and_the_end_of_its_delivery_come_without_bodies() {
    let api = TestApi::new().await;
    let served = RunningServer::start(&api);
    let mut client = Client::open(&served, None).await;
    for header in [
        "text/event-stream",
        "cache-control: no-store",
        "x-accel-buffering: no",
    ] {
        assert!(
            client.text.to_ascii_lowercase().contains(header),
            "{}",
            client.text
        );
    }
    let id = api.subscribe("n").await;
    client.until(r#""change":"created""#).await;
    api.attempt(id, 200).await;
    client.until("event: attempt").await;
    client.until(r#""status":"delivered""#).await;
    assert!(!client.text.contains("thanks"), "{}", client.text);
    assert!(!client.text.contains("_body"), "{}", client.text);
}

#[actix_web::test]
async fn what_retention_has_removed_since_the_last_event_is_told() {
    let api = TestApi::new().await;
    let served = RunningServer::start(&api);
    let mut client = Client::open(&served, None).await;
    let begin = client.last_id();
    let id = api.subscribe("n").await;
    api.attempt(id, 200).await;
    client.until("event: delivery").await;
    client.until(r#""status":"delivered""#).await;
    client.until("}\nid: ").await;
    let end = client.last_id();
    let store = &api.server.state.api.store;
    let day = now().after(Duration::from_secs(24 * 3_600)).unix_day();
    while store.note_removals(day).await.unwrap() > 0 {}
    while store.forget_changes(day).await.unwrap() > 0 {}
    while store.forget_attempts(day).await.unwrap() > 0 {}
    let mut told = Client::open(&served, Some(&begin)).await;
    told.until("event: dropped").await;
    told.until(r#"{"count":2,"after":""#).await;
    let last = Client::open(&served, Some(&end)).await;
    assert!(!last.text.contains("dropped"), "{}", last.text);
}

#[actix_web::test]
async fn streams_of_an_organization_are_limited_and_hold_no_place_of_a_request() {
    let api = TestApi::with(ApiConfig {
        max_streams_per_organization: 2,
        max_requests_per_key: 1,
        max_connections: 8,
        ..ApiConfig::default()
    })
    .await;
    api.add_key("other", &["org_c"], &Scope::ALL).await;
    let served = RunningServer::start(&api);
    let first = Client::open(&served, None).await;
    let _second = Client::open(&served, None).await;
    let refused = answer(&served, get("/stream", KEY, "close")).await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(refused.contains("\r\nretry-after: 5\r\n"), "{refused}");
    let others = [0, 1].map(|_| get("/stream", "other", "keep-alive"));
    let mut held = Vec::new();
    for request in others {
        let mut socket = served.sent(request).await;
        socket.read_exact(&mut [0; 12]).await.unwrap();
        held.push(socket);
    }
    // Half of the connections have streams.
    let in_org_b = get("/stream", KEY, "close").replace("host: a", "host: a\r\nx-org-id: org_b");
    let refused = answer(&served, in_org_b).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let listed = answer(&served, get("/webhooks", KEY, "close")).await;
    assert!(listed.starts_with("HTTP/1.1 200 "), "{listed}");
    drop((first, held));
    let began = Instant::now();
    while !answer(&served, get("/stream", KEY, "close"))
        .await
        .starts_with("HTTP/1.1 200 ")
    {
        assert!(began.elapsed() < TIMEOUT, "no place becomes free");
    }
}

#[actix_web::test]
async fn a_client_that_does_not_read_is_closed() {
    let mut settings = ApiConfig {
        max_tests_per_minute: 100_000,
        ..ApiConfig::default()
    };
    settings.timeouts.writing = Duration::from_secs(2);
    let api = TestApi::with(settings).await;
    let served = RunningServer::start(&api);
    let id = api.subscribe("n").await;
    let mut silent = served.sent(get("/stream", KEY, "keep-alive")).await;
    let mut reading = Client::open(&served, None).await;
    // The system's buffers take the first events. A write fails once the server has closed the connection.
    let began = Instant::now();
    while silent.write_all(b"x").await.is_ok() {
        for _ in 0..50 {
            api.attempt(id, 200).await;
        }
        reading.text.clear();
        reading.until("event: delivery").await;
        assert!(began.elapsed() < TIMEOUT * 4, "it is not closed");
    }
    reading.text.clear();
    api.attempt(id, 200).await;
    reading.until("event: delivery").await;
}

#[actix_web::test]
async fn a_stop_ends_streams_at_once() {
    let api = TestApi::new().await;
    let served = RunningServer::start(&api);
    let mut client = Client::open(&served, None).await;
    let began = Instant::now();
    drop(served);
    client.ends().await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[actix_web::test]
async fn a_place_that_the_log_has_not_reached_is_refused() {
    let api = TestApi::new().await;
    let served = RunningServer::start(&api);
    let list = hookline_core::cursor::CursorKind::Tail.of(&organization("org_a"), "");
    let id = list.text(hookline_core::cursor::Cursor {
        created_at: Timestamp::from_unix_micros(1_000_000),
        id: Default::default(),
    });
    let request = get("/stream", KEY, "close");
    let request = request.replace("\r\n\r\n", &format!("\r\nlast-event-id: {id}\r\n\r\n"));
    let refused = answer(&served, request).await;
    assert!(refused.starts_with("HTTP/1.1 422 "), "{refused}");
}
