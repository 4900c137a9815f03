//! Requests with an `Idempotency-Key`.

use super::*;

impl World {
    /// Posts with an idempotency key.
    async fn post_as(&self, idempotency_key: &str, path: &str, body: &Value) -> Answer {
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
async fn a_repeated_creation_makes_one_subscription_and_has_the_first_answer() {
    let world = World::new().await;
    let body = subscription("n");
    let first = world.post_as("k", "/v1/webhooks", &body).await;
    assert_eq!(first.status, 201);
    // What becomes of the subscription meanwhile changes nothing.
    let path = first.header("location").to_owned();
    world.patch(&path, json!({"name": "m"})).await;
    for same in ["/v1/webhooks", "/webhooks"] {
        let again = world.post_as("k", same, &body).await;
        assert_eq!((again.status, &again.text), (201, &first.text));
        for header in ["location", "etag", "content-type", "cache-control"] {
            assert_eq!(again.header(header), first.header(header));
        }
    }
    assert_eq!(world.subscriptions().await, 1);
    assert_eq!(world.post_as("l", "/webhooks", &body).await.status, 201);
    assert_eq!(world.subscriptions().await, 2);
}

#[actix_web::test]
async fn a_key_is_for_one_body_and_bound_to_organization_api_key_and_path() {
    let world = World::new().await;
    let id = world
        .post_as("k", "/webhooks", &subscription("n"))
        .await
        .json()["id"]
        .clone();
    let other = world.post_as("k", "/webhooks", &subscription("m")).await;
    assert_eq!(other.bad_fields(), "Idempotency-Key");
    assert_eq!(world.subscriptions().await, 1);

    let test = format!("/webhooks/{id}/test");
    assert_eq!(world.post_as("k", &test, &json!({})).await.status, 202);
    let create = |api_key: &str, organization: &str| {
        TestRequest::post()
            .uri("/webhooks")
            .insert_header(("authorization", format!("Bearer {api_key}")))
            .insert_header(("x-org-id", organization))
            .insert_header(("idempotency-key", "k"))
            .set_json(subscription("m"))
    };
    world.add_key("another", &["org_a"], &Scope::ALL).await;
    assert_eq!(world.send(create("another", "org_a")).await.status, 201);
    assert_eq!(world.send(create(KEY, "org_b")).await.status, 201);
    let get = keyed(TestRequest::get().uri("/webhooks")).insert_header(("idempotency-key", "k"));
    assert_eq!(world.send(get).await.status, 200);
}

#[actix_web::test]
async fn a_refused_request_does_not_use_its_key_up() {
    let world = World::with(ApiSettings {
        max_subscriptions: 1,
        ..ApiSettings::default()
    })
    .await;
    let first = world.subscribe("first").await;
    let invalid = world.post_as("k", "/webhooks", &json!({})).await;
    invalid.is_problem(422);
    let full = world.post_as("k", "/webhooks", &subscription("n")).await;
    full.is_problem(422);
    assert!(full.text.contains("at most 1"), "{full:?}");
    world.delete(&format!("/webhooks/{first}")).await;
    let made = world
        .post_as("k", "/webhooks", &subscription("another"))
        .await;
    assert_eq!(made.status, 201);
    let path = format!("/webhooks/{}", made.json()["id"]);

    // Refused before the store makes anything.
    world.patch(&path, json!({"is_active": false})).await;
    let replay = format!("{path}/replay");
    world
        .post_as("r", &replay, &json!({}))
        .await
        .is_problem(409);
    world.patch(&path, json!({"is_active": true})).await;
    let started = world
        .post_as("r", &replay, &json!({"status": "skipped"}))
        .await;
    assert_eq!(started.status, 202, "{started:?}");
}

#[actix_web::test]
async fn of_requests_with_one_key_at_once_one_creates() {
    let world = World::new().await;
    let body = subscription("n");
    let answers = futures::future::join_all((0..8).map(|_| world.post_as("k", "/webhooks", &body)));
    for answer in answers.await {
        assert!(matches!(answer.status, 201 | 409), "{answer:?}");
    }
    assert_eq!(world.subscriptions().await, 1);
    assert_eq!(world.post_as("k", "/webhooks", &body).await.status, 201);
}

#[actix_web::test]
async fn a_repeated_test_retry_or_replay_does_nothing_more() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    let delivery = world.exhausted(id, "e").await;
    for path in [
        format!("/webhooks/{id}/replay"),
        format!("/deliveries/{delivery}/retry"),
        format!("/webhooks/{id}/test"),
    ] {
        let first = world.post_as("k", &path, &json!({})).await;
        assert_eq!(first.status, 202, "{path}: {first:?}");
        let published = world.published();
        let again = world.post_as("k", &path, &json!({})).await;
        assert_eq!((again.status, &again.text), (202, &first.text));
        assert_eq!(world.published(), published, "{path}");
    }
}

#[actix_web::test]
async fn a_repeated_rotation_shows_the_same_secret_while_nothing_has_changed() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    let path = format!("/webhooks/{id}/secret/rotate");
    let first = world.post_as("k", &path, &json!({})).await;
    assert!(first.text.contains("whsec_"), "{first:?}");
    assert_eq!(world.post_as("k", &path, &json!({})).await.text, first.text);
    world
        .patch(&format!("/webhooks/{id}"), json!({"name": "m"}))
        .await;
    let late = world.post_as("k", &path, &json!({})).await;
    late.is_problem(409);
    assert!(!late.text.contains("whsec_"));

    let own = json!({"secret": "hush"});
    let first = world.post_as("own", &path, &own).await;
    assert_eq!(first.json()["secret"], Value::Null);
    world
        .patch(&format!("/webhooks/{id}"), json!({"name": "o"}))
        .await;
    assert_eq!(world.post_as("own", &path, &own).await.text, first.text);
}

#[actix_web::test]
async fn a_rotation_that_if_match_refuses_does_not_use_its_key_up() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    let rotate = |tag: &str| {
        keyed(TestRequest::post().uri(&format!("/webhooks/{id}/secret/rotate")))
            .insert_header(("if-match", tag))
            .insert_header(("idempotency-key", "k"))
            .set_json(json!({}))
    };
    world.send(rotate("\"1-1\"")).await.is_problem(412);
    assert_eq!(world.send(rotate("*")).await.status, 200);
}

#[actix_web::test]
async fn events_under_one_key_are_those_of_one_body() {
    let world = World::new().await;
    let first = world.post_as("k", "/events", &event("a")).await;
    assert_eq!(first.status, 202);
    let again = world.post_as("k", "/v1/events", &event("a")).await;
    assert_eq!((again.status, &again.text), (202, &first.text));
    let other = world.post_as("k", "/events", &event("b")).await;
    assert_eq!(other.bad_fields(), "Idempotency-Key");
    // The publisher's outage says nothing of the request.
    world.is(Mood::Down);
    world
        .post_as("l", "/events", &event("c"))
        .await
        .is_problem(503);
    world.is(Mood::Fine);
    assert_eq!(world.post_as("l", "/events", &event("c")).await.status, 202);
}
