//! Publishing over HTTP, and test events.

use hookline_core::rate_limit::Rate;

use super::*;

#[actix_web::test]
async fn all_events_of_a_request_are_one_message() {
    let api = TestApi::new().await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let first = r#"{"organization_id":"org_a","event_type":"workflow.failed","workflow_id":"w","event_id":"b","timestamp":"2025-12-21T12:30:00+02:00","data":{ "n": 1.10 }}"#;
    let body = format!("[{first},{}]", event("a"));
    let request = raw(TestRequest::post().uri("/v1/events"), body)
        .insert_header(("traceparent", traceparent));
    let response = api.send(request).await;
    assert_eq!(response.status, 202);
    assert_eq!(response.json(), json!({"accepted": ["b", "a"]}));

    let published = api.publisher.events.lock().unwrap();
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
async fn an_event_without_an_id_gets_one() {
    let api = TestApi::new().await;
    let mut without = event("");
    without.as_object_mut().unwrap().remove("event_id");
    let response = api.post("/events", without).await;
    assert_eq!(response.status, 202);
    let id = response.json()["accepted"][0].as_str().unwrap().to_owned();
    let published = api.publisher.events.lock().unwrap();
    let body = std::str::from_utf8(&published[0].body).unwrap();
    assert!(
        body.starts_with(&format!(r#"[{{"event_id":"{id}","#)),
        "{body}"
    );
}

#[actix_web::test]
async fn a_repeat_with_its_idempotency_key_publishes_the_same_events() {
    let api = TestApi::new().await;
    let mut without = event("");
    without.as_object_mut().unwrap().remove("event_id");
    let body = json!([without, event("own"), without]).to_string();
    let mut accepted = Vec::new();
    for key in ["k", "k", "l"] {
        let request = raw(TestRequest::post().uri("/v1/events"), body.clone())
            .insert_header(("Idempotency-Key", key));
        let response = api.send(request).await;
        assert_eq!(response.status, 202);
        accepted.push(response.json()["accepted"].clone());
    }
    assert_eq!(accepted[0], accepted[1]);
    assert_eq!(accepted[0][1], "own");
    assert_ne!(accepted[0][0], accepted[0][2]);
    assert_ne!(accepted[0][0], accepted[2][0]);
}

#[actix_web::test]
async fn an_invalid_idempotency_key_is_rejected() {
    let api = TestApi::new().await;
    for key in ["", "a b", &"k".repeat(256)] {
        let request = raw(
            TestRequest::post().uri("/v1/events"),
            event("a").to_string(),
        )
        .insert_header(("Idempotency-Key", key));
        assert_eq!(api.send(request).await.invalid_fields(), "Idempotency-Key");
    }
}

#[actix_web::test]
async fn nothing_is_published_if_an_event_is_invalid_or_of_another_organization() {
    let api = TestApi::new().await;
    let mut of_b = event("b");
    of_b["organization_id"] = json!("org_b");
    let mut bad = event("c");
    bad["event_type"] = json!("x");
    bad["extra"] = json!(1);

    let response = api.post("/events", json!([event("a"), of_b])).await;
    response.is_problem(403);
    assert_eq!(
        response.json()["detail"],
        "[1].organization_id is org_b, and the request is for org_a; send each organization's events in a request \
         of its own, with the header X-Org-Id"
    );
    let alone = api.post("/events", of_b.clone()).await;
    alone.is_problem(403);
    assert!(
        alone.text.contains("\"organization_id is org_b"),
        "{alone:?}"
    );
    let response = api.post("/events", json!([bad, of_b, 7])).await;
    assert_eq!(response.invalid_fields(), "[0].extra [0].event_type [2]");
    for nothing in [json!([]), json!(1), json!(vec![event("a"); 1_001])] {
        api.post("/events", nothing).await.is_problem(422);
    }
    assert!(api.publisher.events.lock().unwrap().is_empty());

    let as_b = keyed(TestRequest::post().uri("/events"))
        .insert_header(("X-Org-Id", "org_b"))
        .set_json(of_b);
    assert_eq!(api.send(as_b).await.status, 202);
}

#[actix_web::test]
async fn events_of_an_organization_are_rate_limited() {
    let rate = Rate::new(1, Duration::from_secs(60)).with_burst(3);
    let api = TestApi::with(ApiConfig {
        event_rate: Some(rate),
        ..ApiConfig::default()
    })
    .await;
    let two = json!([event("a"), event("b")]);
    assert_eq!(api.post("/events", two.clone()).await.status, 202);
    api.post("/events", json!({})).await.is_problem(422);
    // All or none: the limit has room for one.
    let rejected = api.post("/events", two).await;
    rejected.is_problem(429);
    let wait: u64 = rejected.header("retry-after").parse().unwrap();
    assert!((59..=60).contains(&wait), "{wait} s");
    assert_eq!(api.post("/events", event("c")).await.status, 202);
    api.post("/events", event("d")).await.is_problem(429);
    assert_eq!(api.publisher.events.lock().unwrap().len(), 2);

    let mut of_b = event("e");
    of_b["organization_id"] = json!("org_b");
    let as_b = keyed(TestRequest::post().uri("/events"))
        .insert_header(("X-Org-Id", "org_b"))
        .set_json(of_b);
    assert_eq!(api.send(as_b).await.status, 202);
}

#[actix_web::test]
async fn an_organization_over_its_storage_quota_gets_429() {
    let api = TestApi::with(ApiConfig {
        max_stored_bytes: Some(100),
        ..ApiConfig::default()
    })
    .await;
    assert_eq!(api.post("/events", event("a")).await.status, 202);
    let id = api.subscribe("n").await;
    let test = format!("/webhooks/{id}/test");
    assert_eq!(api.post(&test, json!({})).await.status, 202);
    let rejected = api.post("/events", event("b")).await;
    rejected.is_problem(429);
    assert_eq!(rejected.header("retry-after"), "60");
    assert_eq!(api.publisher.events.lock().unwrap().len(), 1);
}

#[actix_web::test]
async fn a_repeated_event_in_one_request_is_accepted() {
    let api = TestApi::new().await;
    let response = api.post("/events", json!([event("a"), event("a")])).await;
    assert_eq!(response.json(), json!({"accepted": ["a", "a"]}));
}

#[actix_web::test]
async fn a_test_publishes_one_attempt() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let path = format!("/v1/webhooks/{id}");
    api.patch(&path, json!({"is_active": false})).await;
    let response = api
        .send(keyed(TestRequest::post().uri(&format!("{path}/test"))))
        .await;
    assert_eq!(response.status, 202, "{response:?}");
    let sent = response.json();
    assert!(sent["event_id"].as_str().unwrap().starts_with("evt_test_"));

    let attempts = api.publisher.attempts.lock().unwrap().clone();
    let [scheduled] = attempts.as_slice() else {
        panic!("not one attempt: {attempts:?}");
    };
    assert_eq!(sent["delivery_id"], scheduled.task.delivery.to_string());
    assert_eq!(
        (scheduled.task.attempt, scheduled.delay),
        (1, Duration::ZERO)
    );
}

#[actix_web::test]
async fn a_test_and_a_retry_reject_unknown_fields() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let delivery = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    for path in [
        format!("/webhooks/{id}/test"),
        format!("/deliveries/{delivery}/retry"),
    ] {
        let response = api
            .post(&path, json!({"event_id": "x", "workflow_id": "w"}))
            .await;
        assert_eq!(response.invalid_fields(), "event_id workflow_id");
        assert_eq!(api.post(&path, json!([])).await.invalid_fields(), "");
        let response = api.post(&format!("{path}?a=1"), json!({})).await;
        assert_eq!(response.invalid_fields(), "a");
        let no_json = raw(TestRequest::post().uri(&path), "nonsense");
        api.send(no_json).await.is_problem(400);
    }
    assert!(api.publisher.attempts.lock().unwrap().is_empty());
}
