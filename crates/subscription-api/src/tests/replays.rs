//! Retries by hand and replays.

use hookline_core::delivery::{DeliveryState, GaveUp, OwedAttempt};
use hookline_core::ids::{DeliveryId, EventId, SubscriptionId};

use super::*;

impl World {
    /// An event of `org_a` whose delivery is exhausted.
    pub(super) async fn exhausted(&self, subscription: i64, id: &str) -> String {
        self.take_in(id).await;
        let subscription = SubscriptionId(subscription);
        let event = EventId::parse(id).unwrap();
        let owed = OwedAttempt {
            delivery: DeliveryId::of(&organization("org_a"), &event, subscription),
            generation: 0,
            attempt: 1,
            subscription,
        };
        let end = DeliveryState::Exhausted {
            at: now(),
            why: GaveUp::OutOfAttempts,
        };
        let store = &self.server.state.api.store;
        store.end(vec![owed], end).await.unwrap();
        owed.delivery.to_string()
    }

    pub(super) fn published(&self) -> usize {
        self.publisher.attempts.lock().unwrap().len()
    }
}

#[actix_web::test]
async fn a_retry_is_stored_and_handed_on() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    let delivery = world.exhausted(id, "e").await;
    let path = format!("/v1/deliveries/{delivery}/retry");
    let of_b = keyed(TestRequest::post().uri(&path)).insert_header(("X-Org-Id", "org_b"));
    world.send(of_b).await.is_problem(404);
    let answer = world.post(&path, json!({})).await;
    assert_eq!(answer.status, 202);
    assert_eq!(
        answer.json(),
        json!({"delivery_id": delivery, "attempt": 1})
    );
    let handed_on = *world.publisher.attempts.lock().unwrap().last().unwrap();
    assert_eq!(handed_on.owed.delivery.to_string(), delivery);
    assert_eq!((handed_on.owed.generation, handed_on.owed.attempt), (1, 1));
    assert_eq!(handed_on.delay, Duration::ZERO);
    let refused = world.post(&path, json!({})).await;
    refused.is_problem(409);
    insta::assert_json_snapshot!(refused.json(), @r#"
    {
      "detail": "an attempt of the delivery is owed anyway; `next_attempt_at` says when",
      "status": 409,
      "title": "Conflict",
      "type": "urn:hookline:problem:conflict"
    }
    "#);
    assert_eq!(world.published(), 1);
}

#[actix_web::test]
async fn a_retry_needs_no_broker() {
    let world = World::with(impatient()).await;
    let id = world.subscribe("n").await;
    for mood in [Mood::Down, Mood::Hanging] {
        let delivery = world.exhausted(id, &format!("{mood:?}")).await;
        world.is(mood);
        let path = format!("/deliveries/{delivery}/retry");
        assert_eq!(world.post(&path, json!({})).await.status, 202);
        let shown = world.get(&format!("/deliveries/{delivery}")).await.json();
        assert_eq!(shown["status"], "pending");
        world.post(&path, json!({})).await.is_problem(409);
    }
}

#[actix_web::test]
async fn a_replay_is_counted_made_shown_and_cancelled() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    world.exhausted(id, "e").await;
    let path = format!("/v1/webhooks/{id}/replay");
    let counted = world.post(&path, json!({"dry_run": true})).await;
    assert_eq!((counted.status, counted.json()), (200, json!({"count": 1})));
    let body = json!({"since": "2025-12-21T10:30:00Z", "status": "exhausted"});
    let made = world.post(&path, body).await;
    assert_eq!((made.status, &made.json()["count"]), (202, &json!(1)));
    let replay = format!("/v1/replays/{}", made.json()["replay_id"].as_str().unwrap());
    let mut shown = world.get(&replay).await.json();
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
        "event_types": null,
        "since": "2025-12-21T10:30:00Z",
        "status": "exhausted",
        "until": null
      },
      "finished_at": null,
      "replayed": 0,
      "status": "running",
      "subscription_id": 1
    }
    "#);
    let of_b = keyed(TestRequest::delete().uri(&replay)).insert_header(("X-Org-Id", "org_b"));
    world.send(of_b).await.is_problem(404);
    for _ in 0..2 {
        assert_eq!(world.delete(&replay).await.status, 204);
    }
    let shown = world.get(&replay).await.json();
    assert_eq!(shown["status"], "cancelled");
    assert_eq!(shown["cancelled_because"], "requested");
    // Dispatchers hand on; the API only says that they are to.
    assert_eq!(world.published(), 0);
}

#[actix_web::test]
async fn an_organization_has_so_many_replays_running() {
    let world = World::with(ApiSettings {
        max_running_replays: 2,
        ..ApiSettings::default()
    })
    .await;
    let id = world.subscribe("n").await;
    let path = format!("/webhooks/{id}/replay");
    let made = world.post(&path, json!({})).await;
    assert_eq!(world.post(&path, json!({})).await.status, 202);
    world.post(&path, json!({})).await.is_problem(409);
    let replay = format!("/replays/{}", made.json()["replay_id"].as_str().unwrap());
    assert_eq!(world.delete(&replay).await.status, 204);
    assert_eq!(world.post(&path, json!({})).await.status, 202);
}

#[actix_web::test]
async fn a_bad_replay_names_every_field() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    let path = format!("/webhooks/{id}/replay");
    let bad = json!({
        "since": "2025-12-22T00:00:00Z", "until": "2025-12-21T00:00:00Z", "status": "pending",
        "event_types": ["workflow.failed", "x"], "dry_run": "yes", "limit": 5,
    });
    let fields = world.post(&path, bad).await.bad_fields();
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
    assert_eq!(world.send(twice).await.bad_fields(), "status");
    let none = raw(TestRequest::post().uri(&path), "");
    world.send(none).await.is_problem(400);
    world
        .post("/webhooks/99/replay", json!({}))
        .await
        .is_problem(404);
    for path in [
        "/replays/1",
        "/replays/00000000-0000-0000-0000-000000000000",
    ] {
        world.get(path).await.is_problem(404);
        world.delete(path).await.is_problem(404);
    }
}
