//! What is refused before anybody looks at it, and what is answered when a part fails.

use hookline_runtime::hosts::Hosts;

use super::*;

#[actix_web::test]
async fn what_hookline_sends_does_not_come_back_in() {
    let world = World::new().await;
    for path in ["/v1/webhooks", "/events", "/docs", "/nowhere"] {
        let request = TestRequest::post()
            .uri(path)
            .insert_header(("webhook-id", "a"));
        world.send(request).await.is_problem(508);
    }
    for path in ["/healthz", "/v1/readyz"] {
        let request = TestRequest::get()
            .uri(path)
            .insert_header(("webhook-id", "a"));
        assert_eq!(world.send(request).await.status, 200);
    }
}

#[actix_web::test]
async fn a_request_for_another_host_is_misdirected_on_every_path() {
    let world = World::with(ApiSettings {
        hosts: Hosts::Loopback(std::net::Ipv4Addr::LOCALHOST.into()),
        ..ApiSettings::default()
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
        "/nowhere",
    ] {
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
        ] {
            world.send(get(path, host)).await.is_problem(421);
        }
    }
    for host in ["127.0.0.1", "localhost:8080", "[::1]:1"] {
        assert_eq!(world.send(get("/v1/webhooks", host)).await.status, 200);
    }
}

#[actix_web::test]
async fn a_body_must_be_json_and_say_so() {
    let world = World::new().await;
    let typed = |content_type: &'static str| {
        keyed(TestRequest::post().uri("/webhooks"))
            .insert_header(("content-type", content_type))
            .insert_header(("content-length", "2"))
            .set_payload("{}")
    };
    for bad in ["text/plain", "application/problem+json"] {
        world.send(typed(bad)).await.is_problem(415);
    }
    for good in ["application/json", "APPLICATION/json; charset=utf-8"] {
        world.send(typed(good)).await.is_problem(422);
    }
    let untyped = keyed(TestRequest::post().uri("/webhooks"))
        .insert_header(("content-length", "2"))
        .set_payload("{}");
    let refused = world.send(untyped).await;
    refused.is_problem(415);
    assert_eq!(
        refused.json()["detail"],
        "the header Content-Type is missing; send `Content-Type: application/json`"
    );
    let encoded = typed("application/json").insert_header(("content-encoding", "gzip"));
    let refused = world.send(encoded).await;
    refused.is_problem(415);
    assert!(refused.text.contains("Content-Encoding"), "{refused:?}");
}

#[actix_web::test]
async fn an_empty_body_is_said_to_be_empty() {
    let world = World::new().await;
    for path in ["/webhooks", "/events"] {
        for request in [
            keyed(TestRequest::post().uri(path)),
            raw(TestRequest::post().uri(path), " \n"),
        ] {
            let refused = world.send(request).await;
            refused.is_problem(400);
            assert_eq!(
                refused.json()["detail"],
                "the body is empty; this call takes JSON"
            );
        }
    }
}

#[actix_web::test]
async fn what_is_no_json_is_400_and_json_that_is_no_object_is_422() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    let one = format!("/webhooks/{id}");
    let deep = "[".repeat(50_000);
    for bad in ["", "{", "{} {}", "{'a':1}", &deep, r#"{"a":"\ud800"}"#] {
        let create = raw(TestRequest::post().uri("/webhooks"), bad);
        world.send(create).await.is_problem(400);
        let change = raw(TestRequest::patch().uri(&one), bad);
        world.send(change).await.is_problem(400);
    }
    let not_utf8 = keyed(TestRequest::post().uri("/webhooks"))
        .insert_header(("content-type", "application/json"))
        .set_payload(b"{\"name\":\"\xff\"}".as_slice());
    world.send(not_utf8).await.is_problem(400);
    for no_object in ["[]", "1", "null", "\"a\""] {
        let create = raw(TestRequest::post().uri("/webhooks"), no_object);
        world.send(create).await.is_problem(422);
        let change = raw(TestRequest::patch().uri(&one), no_object);
        world.send(change).await.is_problem(422);
    }
}

#[actix_web::test]
async fn a_body_that_is_too_large_is_refused_whether_it_says_so_or_not() {
    let world = World::new().await;
    let sized = |bytes: usize| " ".repeat(bytes);
    for (path, limit) in [("/webhooks", 64 * 1024), ("/events", 8 * 1024 * 1024)] {
        let request = || TestRequest::post().uri(path);
        world
            .send(raw(request(), sized(limit + 1)))
            .await
            .is_problem(413);
        world
            .send(raw(request(), sized(limit)))
            .await
            .is_problem(400);
        let announced = raw(request(), "").insert_header(("content-length", limit + 1));
        world.send(announced).await.is_problem(413);
    }
}

#[actix_web::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405() {
    let world = World::new().await;
    for path in [
        "/v1",
        "/v1/",
        "/nope",
        "/v1/webhooks/",
        "/v2/webhooks",
        "/webhooks/1/2/3",
    ] {
        world.get(path).await.is_problem(404);
    }
    let home = world.send(TestRequest::get().uri("/")).await;
    assert_eq!((home.status, home.header("location")), (303, "/docs"));
    for (path, allow) in [
        ("/v1/webhooks", "GET, HEAD, POST"),
        ("/webhooks/1", "GET, HEAD, PATCH, DELETE"),
        ("/webhooks/1/logs", "GET, HEAD"),
        ("/webhooks/1/test", "POST"),
        ("/events", "POST"),
        ("/healthz", "GET, HEAD"),
    ] {
        let answer = world.send(keyed(TestRequest::put().uri(path))).await;
        answer.is_problem(405);
        assert_eq!(answer.header("allow"), allow);
    }
}

#[actix_web::test]
async fn an_id_that_cannot_be_one_is_not_found() {
    let world = World::new().await;
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
        world.get(&format!("/webhooks/{id}")).await.is_problem(404);
        world
            .get(&format!("/webhooks/{id}/logs"))
            .await
            .is_problem(404);
        world
            .delete(&format!("/webhooks/{id}"))
            .await
            .is_problem(404);
        world
            .patch(&format!("/webhooks/{id}"), json!({}))
            .await
            .is_problem(404);
        world
            .post(&format!("/webhooks/{id}/test"), json!({}))
            .await
            .is_problem(404);
    }
}

#[actix_web::test]
async fn whatever_hangs_or_is_down_is_503_and_tells_nothing() {
    let world = World::with(impatient()).await;
    let id = world.subscribe("n").await;
    for mood in [Mood::Hanging, Mood::Down] {
        world.is(mood);
        let answer = world.post("/events", event("e")).await;
        answer.is_problem(503);
        assert!(!answer.text.contains("10.0.0.7"), "{answer:?}");
        // A test is a row, and its owner finds it without the broker.
        let test = format!("/webhooks/{id}/test");
        assert_eq!(world.post(&test, json!({})).await.status, 202);
    }
}

#[actix_web::test]
async fn a_panic_costs_its_own_request_only() {
    let world = World::new().await;
    world.is(Mood::Panicking);
    let answer = world.post("/events", event("e")).await;
    answer.is_problem(500);
    assert!(!answer.text.contains("disco"));
    assert_eq!(world.get("/webhooks").await.status, 200);
}

#[actix_web::test]
async fn an_organization_sends_so_many_tests_and_then_is_told_to_wait() {
    let world = World::with(ApiSettings {
        max_tests_per_minute: 2,
        ..ApiSettings::default()
    })
    .await;
    let [one, other] = [world.subscribe("n").await, world.subscribe("m").await];
    for id in [one, other] {
        let sent = world.post(&format!("/webhooks/{id}/test"), json!({})).await;
        assert_eq!(sent.status, 202);
    }
    let refused = world
        .post(&format!("/webhooks/{one}/test"), json!({}))
        .await;
    refused.is_problem(429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait} s");
    assert_eq!(world.get("/webhooks").await.status, 200);
    let elsewhere = TestRequest::post()
        .uri(&format!("/webhooks/{one}/test"))
        .insert_header(("x-org-id", "org_b"));
    world.send(keyed(elsewhere)).await.is_problem(404);
}

#[actix_web::test]
async fn an_organization_retries_so_many_by_hand_and_then_is_told_to_wait() {
    let world = World::with(ApiSettings {
        max_retries_per_minute: 2,
        ..ApiSettings::default()
    })
    .await;
    let nothing = "/deliveries/00000000-0000-0000-0000-000000000000/retry";
    for _ in 0..2 {
        world.post(nothing, json!({})).await.is_problem(404);
    }
    let refused = world.post(nothing, json!({})).await;
    refused.is_problem(429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait} s");
    let elsewhere = TestRequest::post()
        .uri(nothing)
        .insert_header(("x-org-id", "org_b"));
    world.send(keyed(elsewhere)).await.is_problem(404);
}
