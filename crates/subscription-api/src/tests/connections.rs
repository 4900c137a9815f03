//! Connections, over real sockets.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A server with its own address, until this is dropped.
pub(super) struct RunningServer {
    address: SocketAddr,
    _stop: DropGuard,
}

impl RunningServer {
    pub(super) fn start(api: &TestApi) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let api = Api::clone(&api.server.state.api);
        actix_web::rt::spawn(crate::run(listener, api, stop.clone()));
        Self {
            address,
            _stop: stop.drop_guard(),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(super) async fn sent(&self, bytes: impl AsRef<[u8]>) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        stream
    }
}

/// A request with a key and a `Connection` header.
pub(super) fn get(path: &str, key: &str, connection: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\nconnection: {connection}\r\n\r\n"
    )
}

/// Reads until the connection ends.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    let read = timeout(TIMEOUT, stream.read_to_end(&mut response)).await;
    let read = read.expect("the server ends the connection");
    if let Err(error) = read {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8(response).unwrap()
}

#[actix_web::test]
async fn connections_without_a_key_do_not_block_valid_keys() {
    let api = TestApi::with(ApiConfig {
        max_connections: 20,
        ..ApiConfig::default()
    })
    .await;
    let served = RunningServer::start(&api);
    let mut with_a_key = served.sent(get("/webhooks", KEY, "keep-alive")).await;
    let read = timeout(TIMEOUT, with_a_key.read(&mut [0; 4096])).await;
    assert!(read.unwrap().unwrap() > 0);
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut stream = served.sent("GET /webhooks HTTP/1.1\r\n").await;
        silent.push(async move { read_all(&mut stream).await });
    }
    // The connection with a key and 19 silent ones stay. Until the others are closed, workers still accept some.
    let closed = FuturesUnordered::from_iter(silent).take(81);
    let closed: Vec<String> = closed.collect().await;
    assert!(closed.iter().all(String::is_empty), "{closed:?}");
    let mut other = served.sent(get("/webhooks", KEY, "close")).await;
    assert!(read_all(&mut other).await.starts_with("HTTP/1.1 200 "));
    let last = get("/webhooks", KEY, "close");
    with_a_key.write_all(last.as_bytes()).await.unwrap();
    assert!(read_all(&mut with_a_key).await.contains("HTTP/1.1 200 "));
}

#[actix_web::test]
async fn unread_responses_of_a_key_are_limited_and_other_keys_are_not_affected() {
    let mut settings = ApiConfig::default();
    settings.timeouts.writing = Duration::from_secs(600);
    let api = TestApi::with(settings).await;
    api.add_key("other", &["org_a"], &Scope::ALL).await;
    let app = init_service(app(&api.server)).await;
    for number in 0..100 {
        let mut body = subscription(&format!("{number:0>255}"));
        body["url"] = format!("https://example.com/{}", "u".repeat(2_000)).into();
        let request = keyed(TestRequest::post().uri("/webhooks")).set_json(body);
        let created = call_service(&app, request.to_request()).await;
        assert_eq!(created.status(), 201);
    }
    let served = RunningServer::start(&api);
    let page = "/webhooks?limit=100";
    // The system's buffers take the first responses; the server holds one of the next for each connection.
    let many = get(page, KEY, "keep-alive").repeat(40);
    let mut clients = Vec::new();
    let rejected = loop {
        clients.push(served.sent(&many).await);
        let mut client = served.sent(get(page, KEY, "close")).await;
        let response = read_all(&mut client).await;
        if !response.starts_with("HTTP/1.1 200 ") {
            break response;
        }
        assert!(clients.len() < 500, "nothing is rejected");
    };
    assert!(rejected.starts_with("HTTP/1.1 429 "), "{rejected}");
    assert!(rejected.contains("\r\nretry-after: 1\r\n"), "{rejected}");
    let mut other = served.sent(get(page, "other", "close")).await;
    assert!(read_all(&mut other).await.starts_with("HTTP/1.1 200 "));
    // The response to a change is never replaced.
    let mut change = served
        .sent(format!(
            "DELETE /webhooks/1 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
        ))
        .await;
    assert!(read_all(&mut change).await.starts_with("HTTP/1.1 204 "));
    drop(clients);
    let again = async {
        loop {
            let mut client = served.sent(get(page, KEY, "close")).await;
            if read_all(&mut client).await.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    };
    timeout(TIMEOUT, again).await.expect("memory is free again");
}

#[actix_web::test]
async fn invalid_chunks_are_400_before_and_after_authentication() {
    let api = TestApi::new().await;
    let served = RunningServer::start(&api);
    let head = format!(
        "POST /webhooks HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    for chunks in [
        "no\r\n",
        "1\r\n{no",
        "ffffffffffffffffffff\r\n",
        "2\r\n{}\r\n0\r\nno colon\r\n\r\n",
    ] {
        let mut at_once = served.sent(format!("{head}{chunks}")).await;
        let response = read_all(&mut at_once).await;
        assert!(
            response.starts_with("HTTP/1.1 400 "),
            "{chunks:?}: {response}"
        );
        assert!(response.contains("application/problem+json"), "{response}");
    }
}

/// A `POST` with a key, further headers, and a body or its beginning.
fn post(path: &str, key: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\n{headers}\r\n{body}"
    )
}

#[actix_web::test]
async fn a_slow_body_is_408_and_the_request_has_no_effect() {
    let api = TestApi::with(ApiConfig {
        request_deadline: Duration::from_secs(1),
        ..ApiConfig::default()
    })
    .await;
    let id = api.subscribe("n").await;
    let test = format!("/webhooks/{id}/test");
    let mut late = Vec::new();
    for path in ["/webhooks", "/events", &test] {
        for (headers, part) in [
            ("content-length: 1000\r\n", "{"),
            ("content-length: 1000\r\nexpect: 100-continue\r\n", ""),
            ("content-length: 1000\r\nupgrade: websocket\r\n", "{"),
            ("transfer-encoding: chunked\r\n", "1\r\n{\r\n"),
        ] {
            late.push((path, headers, post(path, KEY, headers, part)));
        }
    }
    let served = RunningServer::start(&api);
    let mut clients = Vec::new();
    for (path, headers, request) in &late {
        clients.push((path, headers, served.sent(request).await));
    }
    for (path, headers, client) in &mut clients {
        let mut bytes = [0; 4096];
        let mut response = String::new();
        while !response.ends_with('}') {
            let read = timeout(TIMEOUT, client.read(&mut bytes)).await;
            let read = read.expect("a response").unwrap();
            assert_ne!(read, 0, "{path} {headers}: {response}");
            response.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(response.starts_with(interim), headers.contains("expect"));
        let response = response.trim_start_matches(interim);
        assert!(
            response.starts_with("HTTP/1.1 408 "),
            "{path} {headers}: {response}"
        );
        assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
        assert!(response.contains("has had no effect"), "{response}");
    }
    let listed = api.get("/webhooks").await.json();
    assert_eq!(listed["total"], 1);
    assert!(api.publisher.events.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn a_change_with_an_upgrade_header_is_made() {
    let api = TestApi::new().await;
    let served = RunningServer::start(&api);
    let body = subscription("upgraded").to_string();
    let headers = format!(
        "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: {}\r\n",
        body.len()
    );
    let mut client = served.sent(post("/webhooks", KEY, &headers, &body)).await;
    let response = read_all(&mut client).await;
    assert!(response.starts_with("HTTP/1.1 201 "), "{response}");
    assert!(response.contains("\"name\":\"upgraded\""), "{response}");
}

#[actix_web::test]
async fn a_request_without_a_valid_key_gets_no_100_continue() {
    let api = TestApi::new().await;
    let served = RunningServer::start(&api);
    let headers = "content-length: 1000\r\nexpect: 100-continue\r\n";
    for path in ["/webhooks", "/events", "/unknown"] {
        let mut client = served.sent(post(path, "wrong", headers, "")).await;
        let response = read_all(&mut client).await;
        let rejected = ["HTTP/1.1 401 ", "HTTP/1.1 404 "];
        assert!(
            rejected.iter().any(|status| response.starts_with(status)),
            "{response}"
        );
    }
}

#[actix_web::test]
async fn a_response_before_a_head_request_has_its_body() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let served = RunningServer::start(&api);
    let one = format!("/webhooks/{id}");
    let first = get(&one, KEY, "keep-alive");
    let head = get(&one, KEY, "close").replacen("GET", "HEAD", 1);
    let mut client = served.sent(first + &head).await;
    let responses = read_all(&mut client).await;
    assert_eq!(
        responses.matches("HTTP/1.1 200 OK").count(),
        2,
        "{responses}"
    );
    assert_eq!(
        responses.matches("\"name\":\"n\"").count(),
        1,
        "{responses}"
    );
}
