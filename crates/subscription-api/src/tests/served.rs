//! What needs no key, and the server as a whole.

use std::net::TcpListener;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::*;

#[actix_web::test]
async fn health_docs_and_the_document_need_no_key() {
    let world = World::new().await;
    for prefix in ["", "/v1"] {
        for (path, content_type) in [
            ("/healthz", "application/json"),
            ("/readyz", "application/json"),
            ("/openapi.json", "application/json"),
            ("/docs", "text/html; charset=utf-8"),
        ] {
            let answer = world
                .send(TestRequest::get().uri(&format!("{prefix}{path}")))
                .await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), content_type);
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
        }
    }
}

#[actix_web::test]
async fn a_part_that_is_not_ready_is_named() {
    let world = World::new().await;
    world.service.api.readiness.register("broker", || false);
    let answer = world.send(TestRequest::get().uri("/readyz")).await;
    answer.is_problem(503);
    assert_eq!(
        answer.json()["detail"],
        "not ready yet; waiting for: broker"
    );
}

#[actix_web::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let world = World::new().await;
    let page = world.send(TestRequest::get().uri("/docs")).await;
    assert!(!page.text.contains("http://") && !page.text.contains("https://"));
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
}

#[actix_web::test]
async fn the_server_answers_on_its_listener_until_it_is_told_to_stop() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let api = Api::clone(&world.service.api);
    let server = actix_web::rt::spawn(crate::run(listener, api, stop.clone()));

    let exchange = async |request: String| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    let head =
        format!("HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\n");

    let listed = exchange(format!("GET /v1/webhooks {head}\r\n")).await;
    assert!(listed.starts_with("HTTP/1.1 200 OK\r\n"), "{listed}");
    assert!(
        listed.ends_with(r#"{"webhooks":[],"total":0,"limit":0,"offset":0}"#),
        "{listed}"
    );

    let asked = exchange(format!("HEAD /v1/webhooks {head}\r\n")).await;
    assert!(
        asked.starts_with("HTTP/1.1 200 OK\r\n") && asked.ends_with("\r\n\r\n"),
        "{asked}"
    );

    let large = "x".repeat(9 * 1024 * 1024);
    let length = large.len();
    let refused = exchange(format!(
        "POST /events {head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{large}"
    ))
    .await;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    assert!(refused.contains("application/problem+json"), "{refused}");

    stop.cancel();
    server.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
