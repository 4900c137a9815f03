use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse};
use futures::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::*;

mod one_at_a_time;

/// More bytes than the buffers of both sockets hold.
const LARGE: usize = 16 * 1024 * 1024;

const FOR_EVER: Duration = Duration::from_secs(600);

/// The timeout of a test that waits for it.
const SHORT_TIMEOUT: Duration = Duration::from_millis(300);

/// The timeout of a test that must act within it.
const IN_A_WHILE: Duration = Duration::from_secs(2);

/// The time limit of each test, long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const NEVER: Timeouts = Timeouts {
    head: FOR_EVER,
    idle: FOR_EVER,
    writing: FOR_EVER,
};

#[derive(Debug, Default)]
struct Seen {
    small: AtomicUsize,
    released: Notify,
}

/// Records when a value that an answer held is dropped.
struct Held(Data<Seen>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.released.notify_one();
    }
}

struct TestHttpServer {
    address: SocketAddr,
    seen: Data<Seen>,
    _stop: tokio_util::sync::DropGuard,
}

async fn small(seen: Data<Seen>) -> &'static str {
    seen.small.fetch_add(1, Ordering::SeqCst);
    "small"
}

async fn large(request: HttpRequest, seen: Data<Seen>) -> Vec<u8> {
    let connection = request.conn_data::<HttpConnection>().unwrap();
    connection.keep_until_written(Held(seen));
    vec![b'x'; LARGE]
}

async fn trusted(request: HttpRequest) -> &'static str {
    request.conn_data::<HttpConnection>().unwrap().trust();
    "trusted"
}

async fn refuse() -> HttpResponse {
    HttpResponse::PayloadTooLarge().body("refused")
}

/// Reads the body late, as a handler after a lookup of the key does.
async fn slow(mut body: web::Payload) -> HttpResponse {
    sleep(SHORT_TIMEOUT / 10).await;
    while let Some(chunk) = body.next().await {
        if let Err(error) = chunk {
            return HttpResponse::BadRequest().body(error.to_string());
        }
    }
    HttpResponse::Ok().finish()
}

async fn echo(body: Bytes) -> Bytes {
    body
}

async fn never(_body: web::Payload) -> HttpResponse {
    std::future::pending().await
}

async fn later() -> &'static str {
    sleep(SHORT_TIMEOUT).await;
    "later"
}

async fn pieces() -> HttpResponse {
    let piece = || Ok::<_, actix_web::Error>(Bytes::from_static(b"piece"));
    HttpResponse::Ok().streaming(stream::iter([piece(), piece()]))
}

async fn quiet() -> HttpResponse {
    let pieces = stream::unfold(0, |piece| async move {
        sleep(2 * SHORT_TIMEOUT).await;
        (piece < 3).then(|| {
            (
                Ok::<_, actix_web::Error>(Bytes::from_static(b"piece")),
                piece + 1,
            )
        })
    });
    HttpResponse::Ok().streaming(pieces)
}

impl TestHttpServer {
    fn with(connections: usize, timeouts: Timeouts) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Data::from(Arc::new(Seen::default()));
        let shared = seen.clone();
        let bounds = Bounds {
            workers: 2,
            connections,
            timeouts,
            last_answers: Duration::from_secs(1),
        };
        let stop = CancellationToken::new();
        let server = serve(listener, bounds, stop.clone(), move || {
            App::new()
                .app_data(shared.clone())
                .route("/small", web::get().to(small))
                .route("/small", web::head().to(small))
                .route("/echo", web::to(echo))
                .route("/pieces", web::to(pieces))
                .route("/never", web::to(never))
                .route("/later", web::to(later))
                .route("/large", web::get().to(large))
                .route("/trusted", web::get().to(trusted))
                .route("/refuse", web::post().to(refuse))
                .route("/slow", web::post().to(slow))
                .route("/quiet", web::get().to(quiet))
                .wrap(from_fn(exchange))
        })
        .unwrap();
        tokio::spawn(server);
        Self {
            address,
            seen,
            _stop: stop.drop_guard(),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

/// Sends `request` and reads the head of the answer and its body up to `end`.
async fn ask(stream: &mut TcpStream, request: &str, end: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with(end) {
        let mut bytes = [0; 1024];
        let read = timeout(PATIENCE, stream.read(&mut bytes)).await;
        let read = read.expect("an answer").unwrap();
        assert_ne!(read, 0, "the end of the connection after {answer:?}");
        answer.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    answer
}

/// Repeats `piece` until the server closes the connection.
async fn dribble(mut stream: TcpStream, piece: &str) {
    let dribbled = async {
        let mut bytes = [0; 1024];
        loop {
            tokio::select! {
                read = stream.read(&mut bytes) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
                () = sleep(SHORT_TIMEOUT / 10) => {}
            }
            if stream.write_all(piece.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let ended = timeout(PATIENCE, dribbled).await;
    ended.expect("the server closes the connection");
}

async fn is_closed(stream: &mut TcpStream) {
    let read = timeout(PATIENCE, stream.read(&mut [0; 64])).await;
    let read = read.expect("the server closes the connection");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn a_first_and_a_second_head_that_dribble_are_cut_off() {
    let head = IN_A_WHILE;
    let server = TestHttpServer::with(10, Timeouts { head, ..NEVER });
    dribble(server.connect().await, "x").await;
    let mut stream = server.connect().await;
    ask(&mut stream, &get("/small"), "small").await;
    dribble(stream, "x").await;
}

#[tokio::test]
async fn chunks_that_dribble_after_an_early_answer_are_cut_off() {
    let head = IN_A_WHILE;
    let server = TestHttpServer::with(10, Timeouts { head, ..NEVER });
    let mut stream = server.connect().await;
    let request =
        "POST /refuse HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
    let answer = ask(&mut stream, request, "refused").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    dribble(stream, "1\r\nx\r\n").await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let idle = IN_A_WHILE;
    let server = TestHttpServer::with(10, Timeouts { idle, ..NEVER });
    let mut stream = server.connect().await;
    for _ in 0..2 {
        ask(&mut stream, &get("/small"), "small").await;
    }
    is_closed(&mut stream).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_closed_and_its_next_request_never_begins() {
    let writing = SHORT_TIMEOUT;
    let server = TestHttpServer::with(10, Timeouts { writing, ..NEVER });
    let mut stream = server.connect().await;
    let both = get("/large") + &get("/small");
    stream.write_all(both.as_bytes()).await.unwrap();
    let released = timeout(PATIENCE, server.seen.released.notified()).await;
    released.expect("the server closes the connection");
    assert_eq!(server.seen.small.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_that_is_read_slowly_is_written_whole_and_the_next_after_it() {
    let writing = Duration::from_secs(3);
    let server = TestHttpServer::with(10, Timeouts { writing, ..NEVER });
    let mut stream = server.connect().await;
    let both = get("/large") + &get("/small");
    stream.write_all(both.as_bytes()).await.unwrap();
    let mut left = LARGE;
    let mut piece = vec![0; LARGE / 12];
    while left > 0 {
        sleep(writing / 10).await;
        let part = left.min(piece.len());
        stream.read_exact(&mut piece[..part]).await.unwrap();
        left -= part;
    }
    ask(&mut stream, "", "small").await;
}

#[tokio::test]
async fn a_streamed_answer_may_pause() {
    let timeouts = Timeouts {
        head: FOR_EVER,
        idle: SHORT_TIMEOUT,
        writing: SHORT_TIMEOUT,
    };
    let server = TestHttpServer::with(10, timeouts);
    let mut stream = server.connect().await;
    let answer = ask(&mut stream, &get("/quiet"), "\r\n0\r\n\r\n").await;
    assert_eq!(answer.matches("piece").count(), 3, "{answer}");
}

#[tokio::test]
async fn a_streamed_answer_to_http_1_0_ends_with_its_connection_and_has_no_chunks() {
    let server = TestHttpServer::with(10, NEVER);
    for more in ["", "connection: keep-alive\r\n"] {
        let mut stream = server.connect().await;
        let request = format!("GET /quiet HTTP/1.0\r\nhost: a\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
        read.expect("the end of the connection").unwrap();
        assert!(answer.ends_with("\r\n\r\npiecepiecepiece"), "{answer}");
        assert!(!answer.contains("transfer-encoding"), "{answer}");
    }
}

#[tokio::test]
async fn connections_that_say_nothing_keep_out_no_client_and_close_none_with_a_good_key() {
    let server = TestHttpServer::with(100, NEVER);
    let mut first = server.connect().await;
    let mut trusted = server.connect().await;
    ask(&mut trusted, &get("/trusted"), "trusted").await;
    let mut silent = Vec::new();
    for _ in 0..250 {
        silent.push(server.connect().await);
    }
    is_closed(&mut first).await;
    is_closed(&mut silent[0]).await;
    ask(&mut trusted, &get("/small"), "small").await;
    let mut another = server.connect().await;
    ask(&mut another, &get("/small"), "small").await;
}

#[tokio::test]
async fn a_malformed_chunk_is_400_and_ends_the_connection() {
    let server = TestHttpServer::with(10, NEVER);
    let mut stream = server.connect().await;
    let request = "POST /slow HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nno\r\n\r\n";
    let answer = ask(&mut stream, request, "}").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    is_closed(&mut stream).await;
}

#[tokio::test]
async fn a_request_to_upgrade_is_answered_and_the_answer_says_that_it_is_the_last() {
    let server = TestHttpServer::with(10, NEVER);
    for protocol in ["websocket", "h2c"] {
        let mut stream = server.connect().await;
        let request = format!(
            "GET /small HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n"
        );
        let answer = ask(&mut stream, &request, "small").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        is_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn large_heads_that_never_end_take_a_bounded_room() {
    let server = TestHttpServer::with(1_000, NEVER);
    let head = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(120 * 1024));
    let mut first = server.connect().await;
    first.write_all(head.as_bytes()).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..300 {
        let mut stream = server.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        others.push(stream);
    }
    is_closed(&mut first).await;
    let mut another = server.connect().await;
    ask(&mut another, &get("/small"), "small").await;
}
