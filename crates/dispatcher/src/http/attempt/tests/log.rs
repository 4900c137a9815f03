//! The headers, addresses and times that the log shows.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hookline_core::headers::CustomHeaders;
use hookline_core::secret::Secret;
use hookline_core::signing::{PreviousSecret, SigningSecrets};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn secret(text: &str) -> Secret {
    Secret::parse(text).unwrap()
}

/// Two secrets and three custom headers.
fn credentials() -> Credentials {
    let mut headers = CustomHeaders::default();
    headers.add("X-Env", "hidden-value").unwrap();
    headers.add("Authorization", "Bearer hidden-token").unwrap();
    headers.add("X-Pin", "pin-7").unwrap();
    Credentials {
        secrets: Some(SigningSecrets {
            current: secret("current"),
            previous: Some(PreviousSecret {
                secret: secret("previous"),
                valid_until: Timestamp::from_unix_micros(1),
            }),
        }),
        headers,
    }
}

type Headers = Vec<(String, Option<String>)>;

fn listed(log: Option<&HeaderLog>) -> Headers {
    let owned = |(name, value): (&str, Option<&str>)| (name.to_owned(), value.map(str::to_owned));
    log.unwrap().iter().map(owned).collect()
}

async fn log_of(answer: impl Into<Bytes>) -> (AttemptOutcome, Headers) {
    let port = start_receiver(answer).await;
    let url = format!("http://127.0.0.1:{port}/hooks?token=1");
    let finished = attempt_with(&requester(None), &url, &credentials()).await;
    let headers = listed(finished.log.response_headers.as_ref());
    (finished.outcome, headers)
}

fn shown(name: &str, value: &str) -> (String, Option<String>) {
    (name.to_owned(), Some(value.to_owned()))
}

fn masked(name: &str) -> (String, Option<String>) {
    (name.to_owned(), None)
}

/// A receiver that answers all requests on a connection with `OK`, and the heads of these requests.
async fn keeping() -> (u16, mpsc::UnboundedReceiver<String>) {
    let (sender, heads) = mpsc::unbounded_channel();
    let port = receiver(move |mut connection| {
        let sender = sender.clone();
        async move {
            loop {
                let mut request = Vec::new();
                while !request.ends_with(b"{}") {
                    if connection.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let _ = sender.send(String::from_utf8(request).unwrap());
                let _ = connection.write_all(OK).await;
            }
        }
    });
    (port.await, heads)
}

#[tokio::test]
async fn request_headers_are_those_that_were_sent_and_secrets_are_masked() {
    let (port, mut heads) = keeping().await;
    for url in [
        format!("http://127.0.0.1:{port}/hooks"),
        format!("http://localhost:{port}"),
    ] {
        let finished = attempt_with(&requester(None), &url, &credentials()).await;
        let head = heads.recv().await.unwrap();
        let (head, _) = head.split_once("\r\n\r\n").unwrap();
        let sent = head
            .lines()
            .skip(1)
            .map(|line| line.split_once(": ").unwrap());
        let logged = listed(finished.log.request_headers.as_ref());
        let hidden = [
            "x-env",
            "authorization",
            "x-pin",
            "x-webhook-signature",
            "x-webhook-signature-previous",
            "webhook-signature",
        ];
        let expected: Headers = sent
            .map(|(name, value)| match hidden.contains(&name) {
                true => masked(name),
                false => shown(name, value),
            })
            .collect();
        assert_eq!(logged, expected);
        let values = logged.iter().filter(|(_, value)| value.is_none());
        assert_eq!(values.count(), hidden.len());
        assert!(logged.contains(&shown("content-length", "2")), "{logged:?}");
        let text = finished.log.request_headers.unwrap();
        assert!(!text.as_str().contains("hidden"));
    }
}

#[tokio::test]
async fn credentials_and_reflected_secrets_of_a_response_are_masked() {
    let signature = secret("current");
    let signature = hookline_core::signing::SigningKey::from(&signature)
        .sign(&DeliveryId(Default::default()).to_string(), 0, b"{}")
        .plain;
    let head = format!(
        "HTTP/1.1 302 Found\r\nServer: s\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nAuthorization: x\r\n\
         Proxy-Authentication-Info: x\r\nX-Webhook-Signature: x\r\nX-Env: x\r\nX-Echo: {signature}\r\n\
         X-Token: hidden-token\r\nX-Text: a hidden-value b\r\nWWW-Authenticate: Bearer error=\"invalid_token\"\r\n\
         Link: </a?token=1>; rel=next\r\nRefresh: 1; url=/a?token=1\r\nContent-Location: /a?token=1\r\n\
         X-Short: pin-7\r\nX-Other: a pin-7 b\r\nLocation: /login?token=1\r\nX-Bytes: a\u{e9}\r\n"
    );
    let mut answer = head.into_bytes();
    answer.extend_from_slice(b"X-Raw: \xff\tz\r\nContent-Length: 0\r\n\r\n");
    let (outcome, headers) = log_of(answer).await;
    assert_eq!(outcome.status(), Some(302));
    assert_eq!(
        headers,
        [
            shown("server", "s"),
            masked("set-cookie"),
            masked("set-cookie"),
            masked("authorization"),
            masked("proxy-authentication-info"),
            masked("x-webhook-signature"),
            masked("x-env"),
            masked("x-echo"),
            masked("x-token"),
            masked("x-text"),
            shown("www-authenticate", "Bearer error=\"invalid_token\""),
            masked("link"),
            masked("refresh"),
            masked("content-location"),
            masked("x-short"),
            shown("x-other", "a pin-7 b"),
            shown("location", "/login\u{2026}"),
            shown("x-bytes", "a\u{e9}"),
            shown("x-raw", "\u{fffd}\tz"),
            shown("content-length", "0"),
        ]
    );
}

#[tokio::test]
async fn response_headers_are_logged_up_to_8_kib() {
    // `X-A: ` and the line break are 7 bytes.
    let value = "y".repeat(8 * 1024 - 7 - 7);
    for cut in ["", "z", "zzzz"] {
        let answer = format!("HTTP/1.1 204 No\r\nX-A: {value}\r\nX-B: {cut}\r\nX-C: 1\r\n\r\n");
        let (_, headers) = log_of(answer).await;
        assert_eq!(headers, [shown("x-a", &value), shown("x-b", "")]);
    }
    let long = "\u{e9}".repeat(5_000);
    let (_, headers) = log_of(format!("HTTP/1.1 204 No\r\nX-A: {long}\r\nX-B: 1\r\n\r\n")).await;
    let kept = "\u{e9}".repeat(4_092) + "\u{fffd}";
    assert_eq!(headers, [shown("x-a", &kept)]);
    // A long cookie is not shown and takes room nevertheless.
    let (_, headers) = log_of(format!(
        "HTTP/1.1 204 No\r\nSet-Cookie: {}\r\nX-B: 1\r\n\r\n",
        "c".repeat(9_000)
    ))
    .await;
    assert_eq!(headers, [masked("set-cookie")]);
}

#[tokio::test]
async fn interim_responses_are_not_logged() {
    let (outcome, headers) = log_of(
        "HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\nHTTP/1.1 200 OK\r\nX-Late: 2\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    assert!(outcome.is_success());
    assert_eq!(
        headers,
        [shown("x-late", "2"), shown("content-length", "0")]
    );
}

/// Whether each phase has a time: dns, connect, TLS, first byte.
fn has(log: &HttpLog) -> [bool; 4] {
    let times = log.times.unwrap();
    [
        times.dns_ms,
        times.connect_ms,
        times.tls_ms,
        times.first_byte_ms,
    ]
    .map(|phase| phase.is_some())
}

#[tokio::test]
async fn a_kept_connection_has_no_times_but_of_its_response() {
    let (port, mut heads) = keeping().await;
    let requester = requester(None);
    let url = format!("http://127.0.0.1:{port}/");
    let first = attempt_with(&requester, &url, &credentials()).await;
    assert_eq!(has(&first.log), [false, true, false, true]);
    heads.recv().await.unwrap();
    let second = attempt_with(&requester, &url, &credentials()).await;
    assert_eq!(has(&second.log), [false, false, false, true]);
    let named = format!("http://localhost:{port}/");
    let named = attempt_with(&requester, &named, &credentials()).await;
    assert_eq!(has(&named.log), [true, true, false, true]);
    for log in [first.log, second.log, named.log] {
        assert_eq!(log.remote_address, None, "loopback is not shown");
        assert!(log.request_headers.is_some() && log.response_headers.is_some());
    }
}

#[tokio::test]
async fn a_request_repeated_on_a_fresh_connection_has_the_times_of_that_connection() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    // Answers one request and closes on the second, without an answer.
    let port = receiver(move |mut connection| {
        let counted = Arc::clone(&counted);
        async move {
            read_request(&mut connection).await;
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = connection.write_all(OK).await;
            read_request(&mut connection).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let requester = requester(None);
    let url = format!("http://127.0.0.1:{port}/");
    for _ in 0..2 {
        let finished = attempt_with(&requester, &url, &credentials()).await;
        assert!(finished.outcome.is_success());
        assert_eq!(has(&finished.log), [false, true, false, true]);
    }
    assert_eq!(requests.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn the_address_of_a_connection_is_known_also_where_it_is_kept() {
    let (port, _heads) = keeping().await;
    let requester = requester(None);
    for _ in 0..2 {
        let body = Full::new(Bytes::from_static(b"{}"));
        let mut message = ::http::Request::post(format!("http://127.0.0.1:{port}/"))
            .body(body)
            .unwrap();
        let mut progress = RequestProgress::of(&mut message);
        let response = requester.client.send(message, &mut progress).await.unwrap();
        let phases = progress.phases();
        assert_eq!(phases.remote, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(phases.is_sent);
        response.into_body().collect().await.unwrap();
    }
}

/// A TLS receiver that never answers, and its certificate.
async fn encrypted() -> (u16, tempfile::NamedTempFile) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), made.cert.pem()).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let port = receiver(move |connection| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(connection) = acceptor.accept(connection).await {
                std::future::pending::<()>().await;
                drop(connection);
            }
        }
    });
    (port.await, file)
}

async fn late(url: &str, extra_ca_file: Option<PathBuf>) -> HttpLog {
    let requester = requester_within(Duration::from_millis(400), extra_ca_file);
    let FinishedRequest { outcome, log } = attempt_with(&requester, url, &credentials()).await;
    let kind = outcome.error().map(|(kind, _)| kind);
    assert_eq!(kind, Some(FailureKind::Timeout), "{url}");
    log
}

#[tokio::test]
async fn a_phase_that_timed_out_has_no_time() {
    // A full backlog takes no connection.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let filling = (0..4).map(|_| tokio::spawn(TcpStream::connect(address)));
    let filling: Vec<_> = filling.collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let log = late(&format!("http://{address}/"), None).await;
    assert_eq!(has(&log), [false; 4]);
    assert_eq!((log.request_headers, log.response_headers), (None, None));
    drop(filling);

    let silent = receiver(|connection| async move {
        std::future::pending::<()>().await;
        drop(connection);
    })
    .await;
    let log = late(&format!("https://127.0.0.1:{silent}/"), None).await;
    assert_eq!(has(&log), [false, true, false, false]);
    assert_eq!(log.request_headers, None);
    let log = late(&format!("http://localhost:{silent}/"), None).await;
    assert_eq!(has(&log), [true, true, false, false]);
    assert!(log.request_headers.is_some());

    let (port, certificate) = encrypted().await;
    let file = certificate.path().to_owned();
    let log = late(&format!("https://127.0.0.1:{port}/"), Some(file)).await;
    assert_eq!(has(&log), [false, true, true, false]);
    assert!(log.request_headers.is_some() && log.response_headers.is_none());

    for (part, is_head) in [
        ("HTTP/1.1 200 OK\r\nX-A: ", false),
        ("HTTP/1.1 102 Processing\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true),
    ] {
        let port = receiver(move |mut connection| async move {
            read_request(&mut connection).await;
            let _ = connection.write_all(part.as_bytes()).await;
            std::future::pending::<()>().await;
        });
        let log = late(&format!("http://127.0.0.1:{}/", port.await), None).await;
        assert_eq!(has(&log), [false, true, false, true], "{part}");
        assert_eq!(log.response_headers.is_some(), is_head, "{part}");
    }
}

#[tokio::test]
async fn a_name_without_an_allowed_address_and_a_blocked_address_log_nothing() {
    let mut requester = requester(None);
    for url in ["http://nowhere.invalid/", "http://a b/"] {
        let finished = attempt_with(&requester, url, &credentials()).await;
        assert!(finished.outcome.hides_target(), "{:?}", finished.outcome);
        assert_eq!(finished.log, HttpLog::default());
    }
    requester.rules.networks = Networks::default();
    let finished = attempt_with(&requester, "http://127.0.0.1/", &credentials()).await;
    let kind = finished.outcome.error().map(|(kind, _)| kind);
    assert_eq!(kind, Some(FailureKind::BlockedAddress));
    assert_eq!(finished.log, HttpLog::default());
}

#[tokio::test]
async fn a_refused_connection_has_neither_headers_nor_a_time_of_its_phase() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/");
    let FinishedRequest { outcome, log } =
        attempt_with(&requester(None), &url, &credentials()).await;
    assert_eq!(outcome.error().unwrap().0, FailureKind::Connect);
    assert_eq!(has(&log), [false; 4]);
    assert_eq!((log.request_headers, log.response_headers), (None, None));
}
