//! Events over HTTP, and tests of a subscription.

use hookline_core::rate::Rate;

use super::*;

#[actix_web::test]
async fn all_events_of_a_request_are_one_message() {
    let world = World::new().await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let first = r#"{"organization_id":"org_a","event_type":"workflow.failed","workflow_id":"w","event_id":"b","timestamp":"2025-12-21T12:30:00+02:00","data":{ "n": 1.10 }}"#;
    let body = format!("[{first},{}]", event("a"));
    let request = raw(TestRequest::post().uri("/v1/events"), body)
        .insert_header(("traceparent", traceparent));
    let answer = world.send(request).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json(), json!({"accepted": ["b", "a"]}));

    let published = world.publisher.events.lock().unwrap();
    let [message] = published.as_slice() else {
        panic!("not one message: {published:?}");
    };
    assert_eq!(
        message.content_type.as_deref(),
        Some("application/vnd.hookline.events+json")
    );
    assert_eq!(message.trace.unwrap().to_string(), traceparent);
    insta::assert_snapshot!(std::str::from_utf8(&message.body).unwrap(), @r#"[{"event_id":"b","event_type":"workflow.failed","workflow_id":"w","organization_id":"org_a","timestamp":"2025-12-21T10:30:00Z","data":{ "n": 1.10 }},{"event_id":"a","event_type":"workflow.completed","workflow_id":"wf","organization_id":"org_a","timestamp":"2025-12-21T10:30:00Z","data":{}}]"#);
}

#[actix_web::test]
async fn an_event_without_an_id_is_given_one() {
    let world = World::new().await;
    let mut without = event("");
    without.as_object_mut().unwrap().remove("event_id");
    let answer = world.post("/events", without).await;
    assert_eq!(answer.status, 202);
    let id = answer.json()["accepted"][0].as_str().unwrap().to_owned();
    let published = world.publisher.events.lock().unwrap();
    let body = std::str::from_utf8(&published[0].body).unwrap();
    assert!(
        body.starts_with(&format!(r#"[{{"event_id":"{id}","#)),
        "{body}"
    );
}

#[actix_web::test]
async fn a_request_that_is_repeated_with_its_idempotency_key_publishes_the_same_events() {
    let world = World::new().await;
    let mut without = event("");
    without.as_object_mut().unwrap().remove("event_id");
    let body = json!([without, event("own"), without]).to_string();
    let mut accepted = Vec::new();
    for key in ["k", "k", "l"] {
        let request = raw(TestRequest::post().uri("/v1/events"), body.clone())
            .insert_header(("Idempotency-Key", key));
        let answer = world.send(request).await;
        assert_eq!(answer.status, 202);
        accepted.push(answer.json()["accepted"].clone());
    }
    assert_eq!(accepted[0], accepted[1]);
    assert_eq!(accepted[0][1], "own");
    assert_ne!(accepted[0][0], accepted[0][2]);
    assert_ne!(accepted[0][0], accepted[2][0]);
}

#[actix_web::test]
async fn an_idempotency_key_that_cannot_be_one_is_refused() {
    let world = World::new().await;
    for key in ["", "a b", &"k".repeat(256)] {
        let request = raw(
            TestRequest::post().uri("/v1/events"),
            event("a").to_string(),
        )
        .insert_header(("Idempotency-Key", key));
        assert_eq!(world.send(request).await.bad_fields(), "Idempotency-Key");
    }
}

#[actix_web::test]
async fn nothing_is_published_when_an_event_is_bad_or_of_others() {
    let world = World::new().await;
    let mut of_b = event("b");
    of_b["organization_id"] = json!("org_b");
    let mut bad = event("c");
    bad["event_type"] = json!("x");
    bad["extra"] = json!(1);

    let answer = world.post("/events", json!([event("a"), of_b])).await;
    answer.is_problem(403);
    assert_eq!(
        answer.json()["detail"],
        "[1].organization_id is org_b, and the request is for org_a; send each organization's events in a request \
         of its own, with the header X-Org-Id"
    );
    let alone = world.post("/events", of_b.clone()).await;
    alone.is_problem(403);
    assert!(
        alone.text.contains("\"organization_id is org_b"),
        "{alone:?}"
    );
    let answer = world.post("/events", json!([bad, of_b, 7])).await;
    assert_eq!(answer.bad_fields(), "[0].extra [0].event_type [2]");
    for nothing in [json!([]), json!(1), json!(vec![event("a"); 1_001])] {
        world.post("/events", nothing).await.is_problem(422);
    }
    assert!(world.publisher.events.lock().unwrap().is_empty());

    let as_b = keyed(TestRequest::post().uri("/events"))
        .insert_header(("X-Org-Id", "org_b"))
        .set_json(of_b);
    assert_eq!(world.send(as_b).await.status, 202);
}

#[actix_web::test]
async fn an_organization_publishes_so_many_and_then_is_told_to_wait() {
    let rate = Rate::new(1, Duration::from_secs(60)).with_burst(3);
    let world = World::with(ApiSettings {
        events_of_organization: Some(rate),
        ..ApiSettings::default()
    })
    .await;
    let two = json!([event("a"), event("b")]);
    assert_eq!(world.post("/events", two.clone()).await.status, 202);
    world.post("/events", json!({})).await.is_problem(422);
    // All or none: there is room for one.
    let refused = world.post("/events", two).await;
    refused.is_problem(429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((59..=60).contains(&wait), "{wait} s");
    assert_eq!(world.post("/events", event("c")).await.status, 202);
    world.post("/events", event("d")).await.is_problem(429);
    assert_eq!(world.publisher.events.lock().unwrap().len(), 2);

    let mut of_b = event("e");
    of_b["organization_id"] = json!("org_b");
    let as_b = keyed(TestRequest::post().uri("/events"))
        .insert_header(("X-Org-Id", "org_b"))
        .set_json(of_b);
    assert_eq!(world.send(as_b).await.status, 202);
}

#[actix_web::test]
async fn an_organization_that_has_filled_its_room_is_told_to_wait() {
    let world = World::with(ApiSettings {
        max_stored_bytes: Some(100),
        ..ApiSettings::default()
    })
    .await;
    assert_eq!(world.post("/events", event("a")).await.status, 202);
    let id = world.subscribe("n").await;
    let test = format!("/webhooks/{id}/test");
    assert_eq!(world.post(&test, json!({})).await.status, 202);
    let refused = world.post("/events", event("b")).await;
    refused.is_problem(429);
    assert_eq!(refused.header("retry-after"), "60");
    assert_eq!(world.publisher.events.lock().unwrap().len(), 1);
}

#[actix_web::test]
async fn one_event_twice_in_a_request_is_fine() {
    let world = World::new().await;
    let answer = world.post("/events", json!([event("a"), event("a")])).await;
    assert_eq!(answer.json(), json!({"accepted": ["a", "a"]}));
}

#[actix_web::test]
async fn a_test_hands_on_one_attempt() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    let path = format!("/v1/webhooks/{id}");
    world.patch(&path, json!({"is_active": false})).await;
    let answer = world
        .send(keyed(TestRequest::post().uri(&format!("{path}/test"))))
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let sent = answer.json();
    assert!(sent["event_id"].as_str().unwrap().starts_with("evt_test_"));

    let attempts = world.publisher.attempts.lock().unwrap().clone();
    let [scheduled] = attempts.as_slice() else {
        panic!("not one attempt: {attempts:?}");
    };
    assert_eq!(sent["delivery_id"], scheduled.owed.delivery.to_string());
    assert_eq!(
        (scheduled.owed.attempt, scheduled.delay),
        (1, Duration::ZERO)
    );
}

#[actix_web::test]
async fn a_test_or_a_retry_refuses_what_it_would_ignore() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    let delivery = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    for path in [
        format!("/webhooks/{id}/test"),
        format!("/deliveries/{delivery}/retry"),
    ] {
        let answer = world
            .post(&path, json!({"event_type": "x", "data": {}}))
            .await;
        assert_eq!(answer.bad_fields(), "data event_type");
        assert_eq!(world.post(&path, json!([])).await.bad_fields(), "");
        let answer = world.post(&format!("{path}?a=1"), json!({})).await;
        assert_eq!(answer.bad_fields(), "a");
        let no_json = raw(TestRequest::post().uri(&path), "nonsense");
        world.send(no_json).await.is_problem(400);
    }
    assert!(world.publisher.attempts.lock().unwrap().is_empty());
}
