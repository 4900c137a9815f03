//! Manual retries and replays.

use hookline_core::delivery::{AttemptTask, DeliveryState, ExhaustedReason};
use hookline_core::ids::{DeliveryId, EventId, SubscriptionId};

use super::*;

impl TestApi {
    /// An event of `org_a` with an exhausted delivery.
    pub(super) async fn exhausted(&self, subscription: i64, id: &str) -> String {
        self.store_event(id).await;
        let subscription = SubscriptionId(subscription);
        let event = EventId::parse(id).unwrap();
        let task = AttemptTask {
            delivery: DeliveryId::of(&organization("org_a"), &event, subscription),
            generation: 0,
            attempt: 1,
            subscription,
        };
        let end = DeliveryState::Exhausted {
            at: now(),
            reason: ExhaustedReason::OutOfAttempts,
        };
        let store = &self.server.state.api.store;
        store.end(vec![task], end).await.unwrap();
        task.delivery.to_string()
    }

    /// The delivery of an event of `org_a` that has just been stored.
    pub(super) async fn pending(&self, subscription: i64, id: &str) -> String {
        self.store_event(id).await;
        let event = EventId::parse(id).unwrap();
        DeliveryId::of(&organization("org_a"), &event, SubscriptionId(subscription)).to_string()
    }

    pub(super) fn published(&self) -> usize {
        self.publisher.attempts.lock().unwrap().len()
    }
}

#[actix_web::test]
async fn a_retry_is_stored_and_published() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let delivery = api.exhausted(id, "e").await;
    let path = format!("/v1/deliveries/{delivery}/retry");
    let of_b = keyed(TestRequest::post().uri(&path)).insert_header(("X-Org-Id", "org_b"));
    api.send(of_b).await.is_problem(404);
    let response = api.post(&path, json!({})).await;
    assert_eq!(response.status, 202);
    assert_eq!(
        response.json(),
        json!({"delivery_id": delivery, "attempt": 1})
    );
    let published = *api.publisher.attempts.lock().unwrap().last().unwrap();
    assert_eq!(published.task.delivery.to_string(), delivery);
    assert_eq!((published.task.generation, published.task.attempt), (1, 1));
    assert_eq!(published.delay, Duration::ZERO);
    let rejected = api.post(&path, json!({})).await;
    rejected.is_problem(409);
    let mut rejected = rejected.json();
    rejected.as_object_mut().unwrap().remove("request_id");
    insta::assert_json_snapshot!(rejected, @r#"
    {
      "detail": "the delivery is pending; `next_attempt_at` is the time of its next attempt",
      "status": 409,
      "title": "Conflict",
      "type": "urn:hookline:problem:conflict"
    }
    "#);
    assert_eq!(api.published(), 1);
}

#[actix_web::test]
async fn a_retry_needs_no_broker() {
    let api = TestApi::with(impatient()).await;
    let id = api.subscribe("n").await;
    for mode in [PublisherMode::Down, PublisherMode::Hanging] {
        let delivery = api.exhausted(id, &format!("{mode:?}")).await;
        api.set_publisher(mode);
        let path = format!("/deliveries/{delivery}/retry");
        assert_eq!(api.post(&path, json!({})).await.status, 202);
        let shown = api.get(&format!("/deliveries/{delivery}")).await.json();
        assert_eq!(shown["status"], "pending");
        api.post(&path, json!({})).await.is_problem(409);
    }
}

#[actix_web::test]
async fn a_retry_of_a_pending_delivery_names_its_next_attempt() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let delivery = api.pending(id, "e").await;
    let path = format!("/v1/deliveries/{delivery}/retry");
    api.post(&path, json!({"force": true}))
        .await
        .is_problem(409);
    for body in [json!({"now": true}), json!({"now": true, "force": true})] {
        let response = api.post(&path, body).await;
        let expected = json!({"delivery_id": delivery, "attempt": 1});
        assert_eq!((response.status, response.json()), (202, expected));
        let published = *api.publisher.attempts.lock().unwrap().last().unwrap();
        assert_eq!((published.task.generation, published.task.attempt), (0, 1));
    }
    let bad = api
        .post(&path, json!({"now": 1, "force": "x", "a": 1}))
        .await;
    assert_eq!(bad.invalid_fields(), "force now a");
}

#[actix_web::test]
async fn a_pending_delivery_is_cancelled_once() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let delivery = api.pending(id, "e").await;
    let path = format!("/v1/deliveries/{delivery}/cancel");
    let of_b = keyed(TestRequest::post().uri(&path)).insert_header(("X-Org-Id", "org_b"));
    api.send(of_b).await.is_problem(404);
    let once = || keyed(TestRequest::post().uri(&path)).insert_header(("Idempotency-Key", "k"));
    for _ in 0..2 {
        let response = api.send(once()).await;
        let expected = json!({"delivery_id": delivery, "status": "cancelled"});
        assert_eq!((response.status, response.json()), (202, expected));
    }
    api.post(&path, json!({})).await.is_problem(409);
    let shown = api.get(&format!("/deliveries/{delivery}")).await.json();
    assert_eq!(shown["status"], "cancelled");
    assert!(shown["next_attempt_at"].is_null() && shown["finished_at"].is_string());
    let story = api.get("/events/e").await.json();
    let reason =
        "it was cancelled, or the subscription was deleted, before the event was delivered";
    assert_eq!(story["subscriptions"][0]["reason"], reason);
    let retry = format!("/v1/deliveries/{delivery}/retry");
    assert_eq!(api.post(&retry, json!({})).await.status, 202);
    let unknown = "/deliveries/00000000-0000-0000-0000-000000000000/cancel";
    api.post(unknown, json!({})).await.is_problem(404);
}

#[actix_web::test]
async fn a_replay_is_counted_created_shown_and_cancelled() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.exhausted(id, "e").await;
    let path = format!("/v1/webhooks/{id}/replay");
    let counted = api.post(&path, json!({"dry_run": true})).await;
    assert_eq!((counted.status, counted.json()), (200, json!({"count": 1})));
    let body = json!({"since": "2025-12-21T10:30:00Z", "status": "exhausted"});
    let made = api.post(&path, body).await;
    assert_eq!((made.status, &made.json()["count"]), (202, &json!(1)));
    let replay = format!("/v1/replays/{}", made.json()["replay_id"].as_str().unwrap());
    let mut shown = api.get(&replay).await.json();
    assert_eq!(shown["id"], made.json()["replay_id"]);
    for name in ["id", "created_at"] {
        assert!(shown[name].is_string());
        shown.as_object_mut().unwrap().remove(name);
    }
    insta::assert_json_snapshot!(shown, @r#"
    {
      "cancelled_because": null,
      "count": 1,
      "filter": {
        "attempt": null,
        "error_kind": null,
        "event_id": null,
        "event_type": null,
        "event_types": null,
        "min_duration_ms": null,
        "response_status": null,
        "since": "2025-12-21T10:30:00Z",
        "status": "exhausted",
        "until": null,
        "workflow_id": null
      },
      "finished_at": null,
      "kind": "deliveries",
      "replayed": 0,
      "status": "running",
      "subscription_id": 1
    }
    "#);
    let of_b = keyed(TestRequest::delete().uri(&replay)).insert_header(("X-Org-Id", "org_b"));
    api.send(of_b).await.is_problem(404);
    for _ in 0..2 {
        assert_eq!(api.delete(&replay).await.status, 204);
    }
    let shown = api.get(&replay).await.json();
    assert_eq!(shown["status"], "cancelled");
    assert_eq!(shown["cancelled_because"], "requested");
    // The dispatcher restarts deliveries, not the API.
    assert_eq!(api.published(), 0);
}

#[actix_web::test]
async fn the_number_of_running_replays_of_an_organization_is_limited() {
    let api = TestApi::with(ApiConfig {
        max_running_replays: 2,
        ..ApiConfig::default()
    })
    .await;
    let id = api.subscribe("n").await;
    let path = format!("/webhooks/{id}/replay");
    let made = api.post(&path, json!({})).await;
    assert_eq!(api.post(&path, json!({})).await.status, 202);
    api.post(&path, json!({})).await.is_problem(409);
    let replay = format!("/replays/{}", made.json()["replay_id"].as_str().unwrap());
    assert_eq!(api.delete(&replay).await.status, 204);
    assert_eq!(api.post(&path, json!({})).await.status, 202);
}

#[actix_web::test]
async fn every_invalid_field_of_a_replay_is_reported() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let path = format!("/webhooks/{id}/replay");
    let bad = json!({
        "since": "2025-12-22T00:00:00Z", "until": "2025-12-21T00:00:00Z", "status": "waiting",
        "event_types": ["workflow.failed", "x"], "dry_run": "yes", "limit": 5,
    });
    let fields = api.post(&path, bad).await.invalid_fields();
    let mut fields: Vec<&str> = fields.split(' ').collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        ["dry_run", "event_types[1]", "limit", "status", "until"]
    );
    let twice = raw(
        TestRequest::post().uri(&path),
        r#"{"status":"skipped","status":"skipped"}"#,
    );
    assert_eq!(api.send(twice).await.invalid_fields(), "status");
    let none = raw(TestRequest::post().uri(&path), "");
    api.send(none).await.is_problem(400);
    api.post("/webhooks/99/replay", json!({}))
        .await
        .is_problem(404);
    for path in [
        "/replays/1",
        "/replays/00000000-0000-0000-0000-000000000000",
    ] {
        api.get(path).await.is_problem(404);
        api.delete(path).await.is_problem(404);
    }
}

#[actix_web::test]
async fn a_replay_of_an_organization_is_counted_created_and_listed() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.exhausted(id, "e").await;
    let other = api.subscribe("m").await;
    for (body, expected) in [
        (json!({"dry_run": true}), 1),
        (json!({"dry_run": true, "subscription_id": other}), 0),
        (
            json!({"dry_run": true, "event_id": "e", "status": ["exhausted"]}),
            1,
        ),
        (json!({"dry_run": true, "event_id": "f"}), 0),
        (json!({"dry_run": true, "status": "pending"}), 0),
    ] {
        let counted = api.post("/v1/replays", body.clone()).await;
        let expected = json!({"count": expected});
        assert_eq!((counted.status, counted.json()), (200, expected), "{body}");
    }
    let unknown = json!({"subscription_id": 99});
    api.post("/replays", unknown).await.is_problem(404);
    let body = json!({"status": ["pending", "exhausted"], "response_status": "5xx", "attempt": 1});
    let all = api.post("/replays", body).await;
    assert_eq!((all.status, &all.json()["count"]), (202, &json!(0)));
    let one = api.post("/replays", json!({"subscription_id": id})).await;
    assert_eq!(one.status, 202);
    let missing = format!("/webhooks/{other}/replay-missing");
    let missing = api.post(&missing, json!({})).await;
    assert_eq!(missing.status, 202);

    let page = api.get("/v1/replays?limit=2").await.json();
    assert_eq!((&page["total"], &page["limit"]), (&json!(3), &json!(2)));
    assert_eq!(page["replays"][0]["id"], missing.json()["replay_id"]);
    assert_eq!(page["replays"][0]["kind"], "missing");
    assert_eq!(page["replays"][1]["subscription_id"], id);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("/replays?cursor={cursor}")).await.json();
    assert_eq!(rest["replays"][0]["id"], all.json()["replay_id"]);
    assert!(rest["replays"][0]["subscription_id"].is_null());
    let filter = &rest["replays"][0]["filter"];
    assert_eq!(filter["status"], json!(["pending", "exhausted"]));
    assert_eq!(
        (&filter["response_status"], &filter["attempt"]),
        (&json!("5xx"), &json!(1))
    );
    assert!(rest["next_cursor"].is_null());
    let of_one = api
        .get(&format!("/replays?subscription_id={id}"))
        .await
        .json();
    assert_eq!(of_one["total"], 1);
    let of_b = keyed(TestRequest::get().uri("/replays")).insert_header(("X-Org-Id", "org_b"));
    assert_eq!(api.send(of_b).await.json()["replays"], json!([]));
    let bad = api
        .get("/replays?subscription_id=x&cursor=x&status=y")
        .await;
    assert_eq!(bad.invalid_fields(), "subscription_id cursor status");
}

#[actix_web::test]
async fn events_before_a_subscription_are_counted() {
    let api = TestApi::new().await;
    api.store_event("before").await;
    let id = api.subscribe("n").await;
    api.store_event("after").await;
    let path = format!("/webhooks/{id}/replay-missing");
    let dry = json!({"dry_run": true});
    let counted = api.post(&path, dry.clone()).await;
    assert_eq!((counted.status, counted.json()), (200, json!({"count": 1})));
    let post = || keyed(TestRequest::post().uri(&path)).insert_header(("Idempotency-Key", "k"));
    let first = api.send(post().set_json(json!({}))).await;
    assert_eq!((first.status, &first.json()["count"]), (202, &json!(1)));
    let again = api.send(post().set_json(json!({}))).await;
    assert_eq!((again.status, again.text), (202, first.text));
    assert_eq!(api.get("/replays").await.json()["total"], 1);
    let bad = api.post(&path, json!({"status": "skipped"})).await;
    assert_eq!(bad.invalid_fields(), "status");
    api.patch(&format!("/webhooks/{id}"), json!({"is_active": false}))
        .await;
    api.post(&path, dry).await.is_problem(409);
}
