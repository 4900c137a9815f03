//! Requests with an `Idempotency-Key`.

use super::*;

impl TestApi {
    /// Posts with an idempotency key.
    async fn post_as(&self, idempotency_key: &str, path: &str, body: &Value) -> TestResponse {
        let request = keyed(TestRequest::post().uri(path)).set_json(body);
        self.send(request.insert_header(("Idempotency-Key", idempotency_key)))
            .await
    }

    async fn subscriptions(&self) -> u64 {
        self.get("/webhooks").await.json()["total"]
            .as_u64()
            .unwrap()
    }
}

#[actix_web::test]
async fn a_repeated_creation_creates_one_subscription_and_gets_the_first_response() {
    let api = TestApi::new().await;
    let body = subscription("n");
    let first = api.post_as("k", "/v1/webhooks", &body).await;
    assert_eq!(first.status, 201);
    // A change in between does not change the stored response.
    let path = first.header("location").to_owned();
    api.patch(&path, json!({"name": "m"})).await;
    for same in ["/v1/webhooks", "/webhooks"] {
        let again = api.post_as("k", same, &body).await;
        assert_eq!((again.status, &again.text), (201, &first.text));
        for header in ["location", "etag", "content-type", "cache-control"] {
            assert_eq!(again.header(header), first.header(header));
        }
    }
    assert_eq!(api.subscriptions().await, 1);
    assert_eq!(api.post_as("l", "/webhooks", &body).await.status, 201);
    assert_eq!(api.subscriptions().await, 2);
}

#[actix_web::test]
async fn an_idempotency_key_is_bound_to_body_organization_api_key_and_path() {
    let api = TestApi::new().await;
    let id = api
        .post_as("k", "/webhooks", &subscription("n"))
        .await
        .json()["id"]
        .clone();
    let other = api.post_as("k", "/webhooks", &subscription("m")).await;
    assert_eq!(other.invalid_fields(), "Idempotency-Key");
    assert_eq!(api.subscriptions().await, 1);

    let test = format!("/webhooks/{id}/test");
    assert_eq!(api.post_as("k", &test, &json!({})).await.status, 202);
    let create = |api_key: &str, organization: &str| {
        TestRequest::post()
            .uri("/webhooks")
            .insert_header(("authorization", format!("Bearer {api_key}")))
            .insert_header(("x-org-id", organization))
            .insert_header(("idempotency-key", "k"))
            .set_json(subscription("m"))
    };
    api.add_key("another", &["org_a"], &Scope::ALL).await;
    assert_eq!(api.send(create("another", "org_a")).await.status, 201);
    assert_eq!(api.send(create(KEY, "org_b")).await.status, 201);
    let get = keyed(TestRequest::get().uri("/webhooks")).insert_header(("idempotency-key", "k"));
    assert_eq!(api.send(get).await.status, 200);
}

#[actix_web::test]
async fn a_rejected_request_releases_its_idempotency_key() {
    let api = TestApi::with(ApiConfig {
        max_subscriptions: 1,
        ..ApiConfig::default()
    })
    .await;
    let first = api.subscribe("first").await;
    let invalid = api.post_as("k", "/webhooks", &json!({})).await;
    invalid.is_problem(422);
    let full = api.post_as("k", "/webhooks", &subscription("n")).await;
    full.is_problem(422);
    assert!(full.text.contains("at most 1"), "{full:?}");
    api.delete(&format!("/webhooks/{first}")).await;
    let made = api
        .post_as("k", "/webhooks", &subscription("another"))
        .await;
    assert_eq!(made.status, 201);
    let path = format!("/webhooks/{}", made.json()["id"]);

    // Rejected before the store creates anything.
    api.patch(&path, json!({"is_active": false})).await;
    let replay = format!("{path}/replay");
    api.post_as("r", &replay, &json!({})).await.is_problem(409);
    api.patch(&path, json!({"is_active": true})).await;
    let started = api
        .post_as("r", &replay, &json!({"status": "skipped"}))
        .await;
    assert_eq!(started.status, 202, "{started:?}");
}

#[actix_web::test]
async fn simultaneous_requests_with_one_idempotency_key_create_once() {
    let api = TestApi::new().await;
    let body = subscription("n");
    let responses = futures::future::join_all((0..8).map(|_| api.post_as("k", "/webhooks", &body)));
    for response in responses.await {
        assert!(matches!(response.status, 201 | 409), "{response:?}");
    }
    assert_eq!(api.subscriptions().await, 1);
    assert_eq!(api.post_as("k", "/webhooks", &body).await.status, 201);
}

#[actix_web::test]
async fn a_repeated_test_retry_or_replay_has_no_further_effect() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let delivery = api.exhausted(id, "e").await;
    for path in [
        format!("/webhooks/{id}/replay"),
        format!("/deliveries/{delivery}/retry"),
        format!("/webhooks/{id}/test"),
    ] {
        let first = api.post_as("k", &path, &json!({})).await;
        assert_eq!(first.status, 202, "{path}: {first:?}");
        let published = api.published();
        let again = api.post_as("k", &path, &json!({})).await;
        assert_eq!((again.status, &again.text), (202, &first.text));
        assert_eq!(api.published(), published, "{path}");
    }
}

#[actix_web::test]
async fn a_repeated_rotation_shows_the_same_secret() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let path = format!("/webhooks/{id}/secret/rotate");
    let first = api.post_as("k", &path, &json!({})).await;
    assert!(first.text.contains("whsec_"), "{first:?}");
    assert_eq!(api.post_as("k", &path, &json!({})).await.text, first.text);
    api.patch(&format!("/webhooks/{id}"), json!({"name": "m"}))
        .await;
    assert_eq!(api.post_as("k", &path, &json!({})).await.text, first.text);

    let own = json!({"secret": "hush"});
    let first = api.post_as("own", &path, &own).await;
    assert_eq!(first.json()["secret"], Value::Null);
    api.patch(&format!("/webhooks/{id}"), json!({"name": "o"}))
        .await;
    assert_eq!(api.post_as("own", &path, &own).await.text, first.text);
}

#[actix_web::test]
async fn a_repeated_creation_shows_the_same_generated_secret() {
    let api = TestApi::new().await;
    let mut body = subscription("n");
    body["secret"] = json!({"generate": true});
    let first = api.post_as("k", "/webhooks", &body).await;
    assert!(first.text.contains("whsec_"), "{first:?}");
    assert_eq!(api.post_as("k", "/webhooks", &body).await.text, first.text);
    assert_eq!(api.subscriptions().await, 1);
}

#[actix_web::test]
async fn a_rotation_that_if_match_rejects_releases_its_idempotency_key() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let rotate = |tag: &str| {
        keyed(TestRequest::post().uri(&format!("/webhooks/{id}/secret/rotate")))
            .insert_header(("if-match", tag))
            .insert_header(("idempotency-key", "k"))
            .set_json(json!({}))
    };
    api.send(rotate("\"1-1\"")).await.is_problem(412);
    assert_eq!(api.send(rotate("*")).await.status, 200);
}

#[actix_web::test]
async fn events_with_one_idempotency_key_must_have_one_body() {
    let api = TestApi::new().await;
    let first = api.post_as("k", "/events", &event("a")).await;
    assert_eq!(first.status, 202);
    let again = api.post_as("k", "/v1/events", &event("a")).await;
    assert_eq!((again.status, &again.text), (202, &first.text));
    let other = api.post_as("k", "/events", &event("b")).await;
    assert_eq!(other.invalid_fields(), "Idempotency-Key");
    // An outage of the publisher does not use the key up.
    api.set_publisher(PublisherMode::Down);
    api.post_as("l", "/events", &event("c"))
        .await
        .is_problem(503);
    api.set_publisher(PublisherMode::Up);
    assert_eq!(api.post_as("l", "/events", &event("c")).await.status, 202);
}
