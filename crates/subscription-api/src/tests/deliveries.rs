//! Deliveries and events.

use hookline_core::event::{Event, MissingId};
use hookline_store::{FanoutIndex, IncomingEvent};

use super::*;

impl TestApi {
    /// Sends a test event, which stays pending, and returns the response.
    async fn waiting(&self, subscription: i64) -> Value {
        let path = format!("/webhooks/{subscription}/test");
        let response = self.post(&path, json!({})).await;
        assert_eq!(response.status, 202);
        response.json()
    }
}

impl TestApi {
    /// Stores an event as ingest does, and returns the number of its deliveries.
    pub(super) async fn store_event(&self, id: &str) -> usize {
        let json = event(id).to_string();
        let event = Event::from_json(json.as_bytes(), MissingId::Refused).unwrap();
        let incoming = IncomingEvent { event, trace: None };
        let store = &self.server.state.api.store;
        let index = FanoutIndex::default();
        let given = store.intake(&index, vec![incoming].into(), now()).await;
        given.unwrap().tasks.len()
    }
}

/// Removes values that differ in each run, after a check that they are strings.
fn take_texts(value: &mut Value, names: &[&str]) {
    for name in names {
        assert!(value[name].is_string(), "{name}: {value}");
        value.as_object_mut().unwrap().remove(*name);
    }
}

#[actix_web::test]
async fn a_delivery_has_all_its_fields() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let sent = api.waiting(id).await;
    let path = format!("/v1/webhooks/{id}/deliveries?status=pending");
    let page = api.get(&path).await.json();
    assert_eq!(
        (&page["total"], &page["limit"], &page["offset"]),
        (&json!(1), &json!(50), &json!(0))
    );
    let mut delivery = page["deliveries"][0].clone();
    assert_eq!(delivery["id"], sent["delivery_id"]);
    assert_eq!(delivery["event_id"], sent["event_id"]);
    let shown = format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap());
    let mut shown = api.get(&shown).await.json();
    let body = shown.as_object_mut().unwrap().remove("request_body");
    let body: Value = serde_json::from_str(body.unwrap().as_str().unwrap()).unwrap();
    assert_eq!(body["event_id"], delivery["event_id"]);
    let mut expected = delivery.clone();
    expected["attempts"] = json!([]);
    expected["next_attempts_cursor"] = Value::Null;
    assert_eq!(shown, expected);
    let varying = ["id", "event_id", "created_at", "next_attempt_at"];
    take_texts(&mut delivery, &varying);
    insta::assert_json_snapshot!(delivery, @r#"
    {
      "attempts_made": 0,
      "event_type": "workflow.completed",
      "exhausted_reason": null,
      "finished_at": null,
      "origin": "test",
      "status": "pending",
      "subscription_id": 1,
      "waiting_for": null
    }
    "#);
}

#[actix_web::test]
async fn an_event_has_its_body_and_an_outcome_for_each_subscription() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let sent = api.waiting(id).await;
    let path = format!("/v1/events/{}", sent["event_id"].as_str().unwrap());
    let event = api.get(&path).await.json();
    let body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["event_id"], event["event_id"]);
    let mut outcome = event["subscriptions"][0].clone();
    let varying = ["delivery_id", "next_attempt_at", "reason"];
    take_texts(&mut outcome, &varying);
    insta::assert_json_snapshot!(outcome, @r#"
    {
      "attempts_made": 0,
      "exhausted_reason": null,
      "finished_at": null,
      "name": "n",
      "outcome": "pending",
      "subscription_id": 1
    }
    "#);
}

#[actix_web::test]
async fn an_event_has_its_body_and_pages_of_subscriptions() {
    let api = TestApi::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(api.subscribe("n").await);
    }
    let sent = api.store_event("evt_1").await;
    assert_eq!(sent, 5);
    let (mut seen, mut query) = (Vec::new(), "deliveries_limit=2".to_owned());
    loop {
        let page = api.get(&format!("/events/evt_1?{query}")).await.json();
        assert!(page["body"].is_string());
        let outcomes = page["subscriptions"].as_array().unwrap();
        assert!(outcomes.len() <= 2, "{page}");
        seen.extend(
            outcomes
                .iter()
                .map(|outcome| outcome["subscription_id"].as_i64().unwrap()),
        );
        match page["next_deliveries_cursor"].as_str() {
            Some(cursor) => query = format!("deliveries_limit=2&deliveries_cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    for bad in ["deliveries_limit=101", "deliveries_cursor=A", "limit=1"] {
        api.get(&format!("/events/evt_1?{bad}"))
            .await
            .is_problem(422);
    }
}

#[actix_web::test]
async fn unknown_malformed_and_foreign_ids_are_not_found() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let sent = api.waiting(id).await;
    let delivery = format!("/deliveries/{}", sent["delivery_id"].as_str().unwrap());
    let event = format!("/events/{}", sent["event_id"].as_str().unwrap());
    let list = format!("/webhooks/{id}/deliveries");
    for path in [&delivery, &event, &list] {
        assert_eq!(api.get(path).await.status, 200);
        let of_b = keyed(TestRequest::get().uri(path)).insert_header(("X-Org-Id", "org_b"));
        api.send(of_b).await.is_problem(404);
    }
    for path in [
        "/deliveries/1",
        "/deliveries/00000000-0000-0000-0000-000000000000",
        "/events/nope",
        "/events/%00",
        "/webhooks/99/deliveries",
    ] {
        api.get(path).await.is_problem(404);
    }
}

#[actix_web::test]
async fn every_invalid_parameter_is_reported_at_once() {
    let api = TestApi::new().await;
    let bad = "status=x&event_type=y&limit=0&offset=-1&cursor=z&since=now&until=&page=1&subscription_id=-1&event_id=\
               &workflow_id=&response_status=5x&error_kind=y&attempt=0&min_duration_ms=-1&include=all";
    for list in ["/webhooks/1/deliveries", "/deliveries", "/events"] {
        let response = api.get(&format!("{list}?{bad}")).await;
        let fields = response.invalid_fields();
        let mut named: Vec<_> = fields.split(' ').collect();
        named.sort_unstable();
        insta::allow_duplicates! {
            insta::assert_snapshot!(named.join(" "), @"attempt cursor error_kind event_id event_type include limit min_duration_ms offset page response_status since status subscription_id until workflow_id");
        }
    }
}
