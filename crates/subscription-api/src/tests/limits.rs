//! Requests that are rejected early, and responses when a part fails.

use hookline_runtime::hosts::Hosts;

use super::*;

#[actix_web::test]
async fn a_request_of_hookline_itself_is_508() {
    let api = TestApi::new().await;
    for path in ["/v1/webhooks", "/events", "/docs", "/unknown"] {
        let request = TestRequest::post()
            .uri(path)
            .insert_header(("webhook-id", "a"));
        api.send(request).await.is_problem(508);
    }
    for path in ["/healthz", "/v1/readyz"] {
        let request = TestRequest::get()
            .uri(path)
            .insert_header(("webhook-id", "a"));
        assert_eq!(api.send(request).await.status, 200);
    }
}

#[actix_web::test]
async fn a_request_for_another_host_is_misdirected_on_every_path() {
    let api = TestApi::with(ApiConfig {
        hosts: Hosts::Loopback(std::net::Ipv4Addr::LOCALHOST.into()),
        ..ApiConfig::default()
    })
    .await;
    let get =
        |path: &str, host: &str| keyed(TestRequest::get().uri(path)).insert_header(("host", host));
    for path in [
        "/v1/webhooks",
        "/events",
        "/docs",
        "/openapi.json",
        "/",
        "/healthz",
        "/v1/readyz",
        "/unknown",
    ] {
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
        ] {
            api.send(get(path, host)).await.is_problem(421);
        }
    }
    for host in ["127.0.0.1", "localhost:8080", "[::1]:1"] {
        assert_eq!(api.send(get("/v1/webhooks", host)).await.status, 200);
    }
}

#[actix_web::test]
async fn a_body_must_be_json_with_its_media_type() {
    let api = TestApi::new().await;
    let typed = |content_type: &'static str| {
        keyed(TestRequest::post().uri("/webhooks"))
            .insert_header(("content-type", content_type))
            .insert_header(("content-length", "2"))
            .set_payload("{}")
    };
    for bad in ["text/plain", "application/problem+json"] {
        api.send(typed(bad)).await.is_problem(415);
    }
    for good in ["application/json", "APPLICATION/json; charset=utf-8"] {
        api.send(typed(good)).await.is_problem(422);
    }
    let untyped = keyed(TestRequest::post().uri("/webhooks"))
        .insert_header(("content-length", "2"))
        .set_payload("{}");
    let rejected = api.send(untyped).await;
    rejected.is_problem(415);
    assert_eq!(
        rejected.json()["detail"],
        "the header Content-Type is missing; send `Content-Type: application/json`"
    );
    let encoded = typed("application/json").insert_header(("content-encoding", "gzip"));
    let rejected = api.send(encoded).await;
    rejected.is_problem(415);
    assert!(rejected.text.contains("Content-Encoding"), "{rejected:?}");
}

#[actix_web::test]
async fn an_empty_body_is_400_with_its_own_detail() {
    let api = TestApi::new().await;
    for path in ["/webhooks", "/events"] {
        for request in [
            keyed(TestRequest::post().uri(path)),
            raw(TestRequest::post().uri(path), " \n"),
        ] {
            let rejected = api.send(request).await;
            rejected.is_problem(400);
            assert_eq!(
                rejected.json()["detail"],
                "the body is empty; this call takes JSON"
            );
        }
    }
}

#[actix_web::test]
async fn invalid_json_is_400_and_json_that_is_not_an_object_is_422() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let one = format!("/webhooks/{id}");
    let deep = "[".repeat(50_000);
    for bad in ["", "{", "{} {}", "{'a':1}", &deep, r#"{"a":"\ud800"}"#] {
        let create = raw(TestRequest::post().uri("/webhooks"), bad);
        api.send(create).await.is_problem(400);
        let change = raw(TestRequest::patch().uri(&one), bad);
        api.send(change).await.is_problem(400);
    }
    let not_utf8 = keyed(TestRequest::post().uri("/webhooks"))
        .insert_header(("content-type", "application/json"))
        .set_payload(b"{\"name\":\"\xff\"}".as_slice());
    api.send(not_utf8).await.is_problem(400);
    for no_object in ["[]", "1", "null", "\"a\""] {
        let create = raw(TestRequest::post().uri("/webhooks"), no_object);
        api.send(create).await.is_problem(422);
        let change = raw(TestRequest::patch().uri(&one), no_object);
        api.send(change).await.is_problem(422);
    }
}

#[actix_web::test]
async fn a_body_that_is_too_large_is_413_with_and_without_content_length() {
    let api = TestApi::new().await;
    let sized = |bytes: usize| " ".repeat(bytes);
    for (path, limit) in [("/webhooks", 64 * 1024), ("/events", 8 * 1024 * 1024)] {
        let request = || TestRequest::post().uri(path);
        api.send(raw(request(), sized(limit + 1)))
            .await
            .is_problem(413);
        api.send(raw(request(), sized(limit))).await.is_problem(400);
        let announced = raw(request(), "").insert_header(("content-length", limit + 1));
        api.send(announced).await.is_problem(413);
    }
}

#[actix_web::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405() {
    let api = TestApi::new().await;
    for path in [
        "/v1",
        "/v1/",
        "/nope",
        "/v1/webhooks/",
        "/v2/webhooks",
        "/webhooks/1/2/3",
    ] {
        api.get(path).await.is_problem(404);
    }
    let home = api.send(TestRequest::get().uri("/")).await;
    assert_eq!((home.status, home.header("location")), (303, "/docs"));
    for (path, allow) in [
        ("/v1/webhooks", "GET, HEAD, POST, OPTIONS"),
        ("/webhooks/1", "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("/webhooks/1/logs", "GET, HEAD, OPTIONS"),
        ("/webhooks/1/test", "POST, OPTIONS"),
        ("/events", "GET, HEAD, POST, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ] {
        let response = api.send(keyed(TestRequest::put().uri(path))).await;
        response.is_problem(405);
        assert_eq!(response.header("allow"), allow);
    }
}

#[actix_web::test]
async fn an_invalid_id_is_not_found() {
    let api = TestApi::new().await;
    for id in [
        "0",
        "-1",
        "x",
        "1.0",
        "9223372036854775808",
        "logs",
        "%00",
        "999",
    ] {
        api.get(&format!("/webhooks/{id}")).await.is_problem(404);
        api.get(&format!("/webhooks/{id}/logs"))
            .await
            .is_problem(404);
        api.delete(&format!("/webhooks/{id}")).await.is_problem(404);
        api.patch(&format!("/webhooks/{id}"), json!({}))
            .await
            .is_problem(404);
        api.post(&format!("/webhooks/{id}/test"), json!({}))
            .await
            .is_problem(404);
    }
}

#[actix_web::test]
async fn a_hanging_or_unavailable_broker_is_503_without_its_error_text() {
    let api = TestApi::with(impatient()).await;
    let id = api.subscribe("n").await;
    for mode in [PublisherMode::Hanging, PublisherMode::Down] {
        api.set_publisher(mode);
        let response = api.post("/events", event("e")).await;
        response.is_problem(503);
        assert!(!response.text.contains("10.0.0.7"), "{response:?}");
        // A test event is a row, which the dispatcher finds without the broker.
        let test = format!("/webhooks/{id}/test");
        assert_eq!(api.post(&test, json!({})).await.status, 202);
    }
}

#[actix_web::test]
async fn a_panic_affects_only_its_own_request() {
    let api = TestApi::new().await;
    api.set_publisher(PublisherMode::Panicking);
    let response = api.post("/events", event("e")).await;
    response.is_problem(500);
    assert!(!response.text.contains("publisher panic"));
    assert_eq!(api.get("/webhooks").await.status, 200);
}

#[actix_web::test]
async fn test_events_of_an_organization_are_rate_limited() {
    let api = TestApi::with(ApiConfig {
        max_tests_per_minute: 2,
        ..ApiConfig::default()
    })
    .await;
    let [one, other] = [api.subscribe("n").await, api.subscribe("m").await];
    for id in [one, other] {
        let sent = api.post(&format!("/webhooks/{id}/test"), json!({})).await;
        assert_eq!(sent.status, 202);
    }
    let rejected = api.post(&format!("/webhooks/{one}/test"), json!({})).await;
    rejected.is_problem(429);
    let wait: u64 = rejected.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait} s");
    assert_eq!(api.get("/webhooks").await.status, 200);
    let elsewhere = TestRequest::post()
        .uri(&format!("/webhooks/{one}/test"))
        .insert_header(("x-org-id", "org_b"));
    api.send(keyed(elsewhere)).await.is_problem(404);
}

#[actix_web::test]
async fn manual_retries_of_an_organization_are_rate_limited() {
    let api = TestApi::with(ApiConfig {
        max_retries_per_minute: 2,
        ..ApiConfig::default()
    })
    .await;
    let nothing = "/deliveries/00000000-0000-0000-0000-000000000000/retry";
    for _ in 0..2 {
        api.post(nothing, json!({})).await.is_problem(404);
    }
    let rejected = api.post(nothing, json!({})).await;
    rejected.is_problem(429);
    let wait: u64 = rejected.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait} s");
    let elsewhere = TestRequest::post()
        .uri(nothing)
        .insert_header(("x-org-id", "org_b"));
    api.send(keyed(elsewhere)).await.is_problem(404);
}
