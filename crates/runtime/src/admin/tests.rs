use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::Resource;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;

struct Admin {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
}

fn serving(readiness: Readiness, metrics: Metrics) -> Admin {
    serving_to(Hosts::Any, readiness, metrics)
}

fn serving_to(hosts: Hosts, readiness: Readiness, metrics: Metrics) -> Admin {
    let listener = listen("admin.listen", "127.0.0.1:0".parse().unwrap()).unwrap();
    let shutdown = CancellationToken::new();
    Admin {
        address: listener.local_addr().unwrap(),
        serving: tokio::spawn(serve(listener, hosts, readiness, metrics, shutdown.clone())),
        shutdown,
    }
}

fn metrics() -> Metrics {
    Metrics::new(Resource::builder_empty().build()).unwrap()
}

impl Admin {
    /// The status and the body of an answer.
    async fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        (status.to_owned(), body.to_owned())
    }
}

fn answer(status: &str, body: &str) -> (String, String) {
    (status.to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_unready_process_names_the_unready_part() {
    let broker = Arc::new(AtomicBool::new(false));
    let readiness = Readiness::default();
    let admin = serving(readiness.clone(), metrics());
    assert_eq!(
        admin.get("/readyz").await,
        answer("503", r#"{"status":"not ready","parts":{}}"#)
    );
    readiness.register("store", || true);
    let seen = Arc::clone(&broker);
    readiness.register("broker", move || seen.load(Ordering::Relaxed));
    assert_eq!(
        admin.get("/readyz").await,
        answer(
            "503",
            r#"{"status":"not ready","parts":{"broker":false,"store":true}}"#
        )
    );
    assert_eq!(
        admin.get("/healthz").await,
        answer("200", r#"{"status":"ok"}"#)
    );
    broker.store(true, Ordering::Relaxed);
    assert_eq!(
        admin.get("/readyz").await,
        answer(
            "200",
            r#"{"status":"ready","parts":{"broker":true,"store":true}}"#
        )
    );
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_text() {
    let metrics = metrics();
    let events = metrics
        .provider()
        .meter("test")
        .u64_counter("events")
        .build();
    events.add(3, &[]);
    let (status, body) = serving(Readiness::default(), metrics).get("/metrics").await;
    assert_eq!(status, "200");
    assert!(body.contains("\nevents_total 3\n"), "{body}");
}

#[tokio::test]
async fn the_admin_listener_stops_at_shutdown() {
    let admin = serving(Readiness::default(), metrics());
    assert_eq!(admin.get("/nothing").await.0, "404");
    admin.shutdown.cancel();
    admin.serving.await.unwrap().unwrap();
    assert!(TcpStream::connect(admin.address).await.is_err());
}

#[test]
fn an_address_in_use_is_named_with_its_setting() {
    let first = listen("admin.listen", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    let error = anyhow::Error::from(listen("admin.listen", address).unwrap_err());
    let line = format!("{error:#}").replace(&address.port().to_string(), "PORT");
    insta::assert_snapshot!(
        line,
        @"setting admin.listen = 127.0.0.1:PORT: cannot listen on this address: Address already in use (os error 98)"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn another_host_is_misdirected_on_every_path() {
    let loopback = Hosts::Loopback(std::net::Ipv4Addr::LOCALHOST.into());
    let admin = serving_to(loopback, Readiness::default(), metrics());
    for path in ["/healthz", "/readyz", "/metrics", "/nowhere"] {
        let (status, body) = admin.get(path).await;
        assert_eq!(status, "421", "{path}");
        assert!(
            body.contains(r#""type":"urn:hookline:problem:misdirected""#),
            "{body}"
        );
    }
}
