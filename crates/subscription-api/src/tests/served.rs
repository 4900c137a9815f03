//! Public routes, and the running server.

use std::net::TcpListener;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::*;

#[actix_web::test]
async fn health_docs_and_the_document_need_no_key() {
    let api = TestApi::new().await;
    for prefix in ["", "/v1"] {
        for (path, content_type) in [
            ("/healthz", "application/json"),
            ("/readyz", "application/json"),
            ("/openapi.json", "application/json"),
            ("/docs", "text/html; charset=utf-8"),
        ] {
            let response = api
                .send(TestRequest::get().uri(&format!("{prefix}{path}")))
                .await;
            assert_eq!(response.status, 200);
            assert_eq!(response.header("content-type"), content_type);
            assert_eq!(response.header("x-content-type-options"), "nosniff");
        }
    }
}

#[actix_web::test]
async fn every_response_has_a_request_id() {
    let api = TestApi::new().await;
    for path in ["/healthz", "/docs", "/", "/webhooks", "/v1/nope", "/events"] {
        let get = || TestRequest::get().uri(path);
        let given = keyed(get()).insert_header(("X-Request-Id", "req-7"));
        assert_eq!(api.send(given).await.header("x-request-id"), "req-7");
        let [one, other] = [api.send(get()).await, api.send(get()).await];
        assert_eq!(one.header("x-request-id").len(), 36);
        assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
    }
    let made = keyed(TestRequest::post().uri("/webhooks")).set_json(subscription("n"));
    let made = made.insert_header(("X-Request-Id", "bad id"));
    assert_eq!(api.send(made).await.header("x-request-id").len(), 36);
}

#[actix_web::test]
async fn a_part_that_is_not_ready_is_named() {
    let api = TestApi::new().await;
    api.server.state.api.readiness.register("broker", || false);
    let response = api.send(TestRequest::get().uri("/readyz")).await;
    response.is_problem(503);
    assert_eq!(
        response.json()["detail"],
        "not ready yet; waiting for: broker"
    );
}

#[actix_web::test]
async fn the_page_loads_nothing_from_other_origins() {
    let api = TestApi::new().await;
    let page = api.send(TestRequest::get().uri("/docs")).await;
    assert!(!page.text.contains("http://") && !page.text.contains("https://"));
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
}

#[actix_web::test]
async fn the_server_answers_until_it_is_stopped() {
    let api = TestApi::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let api = Api::clone(&api.server.state.api);
    let server = actix_web::rt::spawn(crate::run(listener, api, stop.clone()));

    let exchange = async |request: String| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        String::from_utf8(response).unwrap()
    };
    let head =
        format!("HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\n");

    let listed = exchange(format!("GET /v1/webhooks {head}\r\n")).await;
    assert!(listed.starts_with("HTTP/1.1 200 OK\r\n"), "{listed}");
    assert!(
        listed.ends_with(r#"{"webhooks":[],"total":0,"limit":0,"offset":0,"next_cursor":null}"#),
        "{listed}"
    );

    let asked = exchange(format!("HEAD /v1/webhooks {head}\r\n")).await;
    assert!(
        asked.starts_with("HTTP/1.1 200 OK\r\n") && asked.ends_with("\r\n\r\n"),
        "{asked}"
    );

    let large = "x".repeat(9 * 1024 * 1024);
    let length = large.len();
    let rejected = exchange(format!(
        "POST /events {head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{large}"
    ))
    .await;
    assert!(rejected.starts_with("HTTP/1.1 413 "), "{rejected}");
    assert!(rejected.contains("application/problem+json"), "{rejected}");

    stop.cancel();
    server.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// The example that `/docs` shows for a schema.
fn example(document: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return example(document, document.pointer(&reference[1..]).unwrap());
    }
    let given = [
        &schema["example"],
        &schema["examples"][0],
        &schema["default"],
    ];
    let given = given.into_iter().chain([&schema["enum"][0]]);
    if let Some(given) = given.into_iter().find(|given| !given.is_null()) {
        return given.clone();
    }
    if schema["oneOf"].is_array() {
        return example(document, &schema["oneOf"][0]);
    }
    if schema["type"] == "array" {
        return json!([example(document, &schema["items"])]);
    }
    let properties = schema["properties"].as_object();
    let properties = properties.unwrap_or_else(|| panic!("no example: {schema}"));
    let shown = properties
        .iter()
        .map(|(name, inner)| (name.clone(), example(document, inner)));
    Value::Object(shown.collect())
}

#[actix_web::test]
async fn every_example_of_the_document_is_accepted() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let delivery = api.exhausted(id, "e").await;
    let pending = api.pending(id, "f").await;
    let document = api.get("/openapi.json").await.json();
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if schema.is_null() {
                continue;
            }
            let mut body = example(&document, schema);
            if !body["organization_id"].is_null() {
                body["organization_id"] = json!("org_a");
            }
            let id = match path.as_str() {
                "/deliveries/{id}/cancel" => pending.clone(),
                path if path.starts_with("/deliveries/") => delivery.clone(),
                _ => id.to_string(),
            };
            let path = path.replace("{id}", &id);
            let response = match method.as_str() {
                "patch" => api.patch(&path, body.clone()).await,
                _ => api.post(&path, body.clone()).await,
            };
            assert!(
                response.status < 300,
                "{method} {path} {body}: {response:?}"
            );
            tried += 1;
        }
    }
    assert!(tried >= 10, "{tried}");
}

#[actix_web::test]
async fn the_document_has_the_default_limits() {
    let settings = hookline_runtime::settings::Settings::read(None, []).unwrap();
    let api = TestApi::new().await;
    let document = api.get("/openapi.json").await.json();
    let (limits, replay) = (settings.limits, settings.replay);
    let deadline = settings.api.request_deadline.as_secs();
    let paths = &document["paths"];
    for (text, expected) in [
        (
            &paths["/events"]["post"],
            format!("default {} events a second", limits.events_per_second),
        ),
        (
            &paths["/events"]["post"],
            format!("{} at once", limits.events_burst),
        ),
        (
            &paths["/webhooks"]["post"],
            format!("(by default {})", settings.api.max_subscriptions),
        ),
        (
            &paths["/webhooks/{id}/test"]["post"],
            format!("default {} a minute", settings.api.max_tests_per_minute),
        ),
        (
            &paths["/deliveries/{id}/retry"]["post"],
            format!("default {} a minute", settings.api.max_retries_per_minute),
        ),
        (
            &paths["/webhooks/{id}/replay"]["post"],
            format!("(by default {} a second)", replay.per_second),
        ),
        (
            &paths["/webhooks/{id}/replay"]["post"],
            format!("(by default {})", replay.max_running),
        ),
        (
            &paths["/stream"]["get"],
            format!("default {} in", settings.api.max_streams_per_organization),
        ),
        (&document["info"], format!("longer than {deadline} seconds")),
    ] {
        let text = text["description"].as_str().unwrap();
        let text = text.replace(',', "").replace('\n', " ");
        assert!(text.contains(&expected), "{expected}: {text}");
    }
}
