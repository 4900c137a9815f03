//! The server's connections, over real sockets.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// The server on an address of its own, until this is dropped.
struct Served {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Served {
    fn by(world: &World) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let api = Api::clone(&world.server.state.api);
        actix_web::rt::spawn(crate::run(listener, api, stop.clone()));
        Self {
            address,
            _stop: stop.drop_guard(),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection on which this was sent.
    async fn sent(&self, bytes: impl AsRef<[u8]>) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        stream
    }
}

/// A request with a key, and then the end of the connection or not.
fn get(path: &str, key: &str, connection: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\nconnection: {connection}\r\n\r\n"
    )
}

/// All that comes until the connection ends.
async fn all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let read = read.expect("the server ends the connection");
    if let Err(error) = read {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8(answer).unwrap()
}

#[actix_web::test]
async fn a_stranger_on_every_connection_keeps_out_no_key() {
    let world = World::with(ApiSettings {
        max_connections: 20,
        ..ApiSettings::default()
    })
    .await;
    let served = Served::by(&world);
    let mut with_a_key = served.sent(get("/webhooks", KEY, "keep-alive")).await;
    let read = timeout(PATIENCE, with_a_key.read(&mut [0; 4096])).await;
    assert!(read.unwrap().unwrap() > 0);
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(served.sent("GET /webhooks HTTP/1.1\r\n").await);
    }
    assert_eq!(all(&mut silent[0]).await, "");
    let mut other = served.sent(get("/webhooks", KEY, "close")).await;
    assert!(all(&mut other).await.starts_with("HTTP/1.1 200 "));
    let last = get("/webhooks", KEY, "close");
    with_a_key.write_all(last.as_bytes()).await.unwrap();
    assert!(all(&mut with_a_key).await.contains("HTTP/1.1 200 "));
}

#[actix_web::test]
async fn a_key_whose_answers_are_not_read_is_told_to_wait_and_another_is_not() {
    let mut settings = ApiSettings::default();
    settings.clocks.writing = Duration::from_secs(600);
    let world = World::with(settings).await;
    world.add_key("other", &["org_a"], &Scope::ALL).await;
    let app = init_service(app(&world.server)).await;
    for number in 0..100 {
        let mut body = subscription(&format!("{number:0>255}"));
        body["url"] = format!("https://example.com/{}", "u".repeat(2_000)).into();
        let request = keyed(TestRequest::post().uri("/webhooks")).set_json(body);
        let created = call_service(&app, request.to_request()).await;
        assert_eq!(created.status(), 201);
    }
    let served = Served::by(&world);
    let page = "/webhooks?limit=100";
    // The system's buffers take the first of them; of the next, the server holds one each.
    let many = get(page, KEY, "keep-alive").repeat(40);
    let mut clients = Vec::new();
    let refused = loop {
        clients.push(served.sent(&many).await);
        let mut client = served.sent(get(page, KEY, "close")).await;
        let answer = all(&mut client).await;
        if !answer.starts_with("HTTP/1.1 200 ") {
            break answer;
        }
        assert!(clients.len() < 500, "nothing is refused");
    };
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    let mut other = served.sent(get(page, "other", "close")).await;
    assert!(all(&mut other).await.starts_with("HTTP/1.1 200 "));
    // The answer to a change says what was done.
    let mut change = served
        .sent(format!(
            "DELETE /webhooks/1 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
        ))
        .await;
    assert!(all(&mut change).await.starts_with("HTTP/1.1 204 "));
    drop(clients);
    let again = async {
        loop {
            let mut client = served.sent(get(page, KEY, "close")).await;
            if all(&mut client).await.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("room again");
}

#[actix_web::test]
async fn chunks_that_cannot_be_read_are_400_before_and_after_the_key_is_known() {
    let world = World::new().await;
    let served = Served::by(&world);
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
        let answer = all(&mut at_once).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
}

/// A `POST` with a key and these headers besides, and this body or the beginning of it.
fn post(path: &str, key: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\n{headers}\r\n{body}"
    )
}

#[actix_web::test]
async fn a_body_that_comes_too_slowly_is_408_and_the_request_has_no_effect() {
    let world = World::with(ApiSettings {
        request_deadline: Duration::from_secs(1),
        ..ApiSettings::default()
    })
    .await;
    let id = world.subscribe("n").await;
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
    let served = Served::by(&world);
    let mut clients = Vec::new();
    for (path, headers, request) in &late {
        clients.push((path, headers, served.sent(request).await));
    }
    for (path, headers, client) in &mut clients {
        let mut bytes = [0; 4096];
        let mut answer = String::new();
        while !answer.ends_with('}') {
            let read = timeout(PATIENCE, client.read(&mut bytes)).await;
            let read = read.expect("an answer").unwrap();
            assert_ne!(read, 0, "{path} {headers}: {answer}");
            answer.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(answer.starts_with(interim), headers.contains("expect"));
        let answer = answer.trim_start_matches(interim);
        assert!(
            answer.starts_with("HTTP/1.1 408 "),
            "{path} {headers}: {answer}"
        );
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains("has had no effect"), "{answer}");
    }
    let listed = world.get("/webhooks").await.json();
    assert_eq!(listed["total"], 1);
    assert!(world.publisher.events.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn a_change_that_asks_for_an_upgrade_is_made_as_any_other() {
    let world = World::new().await;
    let served = Served::by(&world);
    let body = subscription("upgraded").to_string();
    let headers = format!(
        "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: {}\r\n",
        body.len()
    );
    let mut client = served.sent(post("/webhooks", KEY, &headers, &body)).await;
    let answer = all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(answer.contains("\"name\":\"upgraded\""), "{answer}");
}

#[actix_web::test]
async fn a_request_without_a_good_key_is_not_told_to_send_its_body() {
    let world = World::new().await;
    let served = Served::by(&world);
    let headers = "content-length: 1000\r\nexpect: 100-continue\r\n";
    for path in ["/webhooks", "/events", "/nowhere"] {
        let mut client = served.sent(post(path, "wrong", headers, "")).await;
        let answer = all(&mut client).await;
        let refused = ["HTTP/1.1 401 ", "HTTP/1.1 404 "];
        assert!(
            refused.iter().any(|status| answer.starts_with(status)),
            "{answer}"
        );
    }
}

#[actix_web::test]
async fn an_answer_before_a_head_request_has_its_body() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    let served = Served::by(&world);
    let one = format!("/webhooks/{id}");
    let first = get(&one, KEY, "keep-alive");
    let head = get(&one, KEY, "close").replacen("GET", "HEAD", 1);
    let mut client = served.sent(first + &head).await;
    let answers = all(&mut client).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert_eq!(answers.matches("\"name\":\"n\"").count(), 1, "{answers}");
}
