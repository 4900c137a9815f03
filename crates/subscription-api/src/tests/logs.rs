//! The log.

use hookline_core::http_log::{HeaderLog, HttpLog, PhaseTimes, PublicAddress};
use hookline_core::outcome::{AttemptOutcome, ReceiverResponse};
use hookline_store::{AttemptRecord, NextStep};

use super::*;

impl TestApi {
    /// Sends a test and records that the receiver answered it with `status`.
    pub(super) async fn attempt(&self, subscription: i64, status: u16) {
        let path = format!("/webhooks/{subscription}/test");
        assert_eq!(self.post(&path, json!({})).await.status, 202);
        let scheduled = *self.publisher.attempts.lock().unwrap().last().unwrap();
        let store = &self.server.state.api.store;
        let delivery = scheduled.task.delivery;
        let due = store
            .due_deliveries(vec![delivery])
            .await
            .unwrap()
            .remove(&delivery)
            .unwrap();
        let record = AttemptRecord {
            task: scheduled.task,
            run: Default::default(),
            kind: due.kind,
            organization: due.organization,
            subscription: due.subscription,
            event: due.event,
            event_type: due.event_type,
            url: due.url,
            activation: due.activation,
            outcome: AttemptOutcome::Answered(ReceiverResponse {
                status,
                body: "thanks".to_owned(),
                retry_after: None,
                location: None,
            }),
            http: http_log(),
            started: now(),
            took: Duration::from_millis(12),
            next_step: NextStep::Delivered,
        };
        assert_eq!(store.record(Arc::new([record])).await.unwrap().len(), 1);
    }
}

fn http_log() -> HttpLog {
    let mut request_headers = HeaderLog::new();
    request_headers.mask("authorization");
    request_headers.show("content-length", "7");
    let mut response_headers = HeaderLog::new();
    response_headers.show("server", "s \u{fffd}");
    HttpLog {
        request_headers: Some(request_headers),
        response_headers: Some(response_headers),
        remote_address: PublicAddress::parse("8.8.8.8"),
        times: Some(PhaseTimes {
            dns_ms: Some(1),
            connect_ms: Some(2),
            tls_ms: None,
            first_byte_ms: Some(0),
        }),
    }
}

fn ids(page: &Value) -> Vec<String> {
    let logs = page["logs"].as_array().unwrap();
    logs.iter()
        .map(|log| log["id"].as_str().unwrap().to_owned())
        .collect()
}

#[actix_web::test]
async fn an_attempt_has_all_its_fields() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.attempt(id, 500).await;
    let page = api.get(&format!("/v1/webhooks/{id}/logs")).await.json();
    assert_eq!(
        (&page["total"], &page["limit"], &page["offset"]),
        (&json!(1), &json!(50), &json!(0))
    );
    assert_eq!(page["next_cursor"], Value::Null);
    let mut log = page["logs"][0].clone();
    let body: Value = serde_json::from_str(log["request_body"].as_str().unwrap()).unwrap();
    assert_eq!(body["event_id"], log["event_id"]);
    for name in [
        "id",
        "delivery_id",
        "event_id",
        "request_body",
        "created_at",
    ] {
        assert!(log[name].is_string());
        log.as_object_mut().unwrap().remove(name);
    }
    insta::assert_json_snapshot!(log, @r#"
    {
      "attempt": 1,
      "duration_ms": 12,
      "error": {
        "kind": "http_status",
        "message": "the receiver answered 500"
      },
      "event_type": "workflow.completed",
      "next_attempt_at": null,
      "remote_address": "8.8.8.8",
      "request_headers": [
        {
          "name": "authorization",
          "value": null
        },
        {
          "name": "content-length",
          "value": "7"
        }
      ],
      "response_body": "thanks",
      "response_headers": [
        {
          "name": "server",
          "value": "s �"
        }
      ],
      "response_status": 500,
      "status": "failed",
      "subscription_id": 1,
      "timings": {
        "connect_ms": 2,
        "dns_ms": 1,
        "first_byte_ms": 0,
        "tls_ms": null,
        "total_ms": 12
      },
      "trigger": "test",
      "truncated": false,
      "url": "https://example.com/h"
    }
    "#);
}

#[actix_web::test]
async fn pages_by_offset_and_by_cursor_show_the_same_rows_in_the_same_order() {
    let api = TestApi::new().await;
    let (first, second) = (api.subscribe("1").await, api.subscribe("2").await);
    for index in 0..7 {
        api.attempt(if index % 2 == 0 { first } else { second }, 200)
            .await;
    }
    let all = ids(&api.get("/webhooks/logs/all").await.json());
    assert_eq!(all.len(), 7);

    let (mut by_cursor, mut query) = (Vec::new(), "limit=3".to_owned());
    loop {
        let page = api
            .get(&format!("/v1/webhooks/logs/all?{query}"))
            .await
            .json();
        assert_eq!((&page["total"], &page["offset"]), (&json!(7), &json!(0)));
        by_cursor.extend(ids(&page));
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(by_cursor, all);

    let page = api.get("/webhooks/logs/all?limit=3&offset=4").await.json();
    assert_eq!(
        (ids(&page), &page["next_cursor"]),
        (all[4..].to_vec(), &Value::Null)
    );
    let page = api
        .get(&format!("/webhooks/{first}/logs?limit=4"))
        .await
        .json();
    assert_eq!(
        (&page["total"], &page["next_cursor"]),
        (&json!(4), &Value::Null)
    );
}

#[actix_web::test]
async fn a_page_can_be_filtered_by_status_and_type() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.attempt(id, 200).await;
    api.attempt(id, 404).await;
    for (query, total) in [
        ("status=failed", 1),
        ("status=success&event_type=workflow.completed", 1),
        ("event_type=workflow.failed", 0),
    ] {
        let page = api
            .get(&format!("/webhooks/{id}/logs?{query}"))
            .await
            .json();
        assert_eq!(
            (&page["total"], ids(&page).len()),
            (&json!(total), total),
            "{query}"
        );
    }
}

#[actix_web::test]
async fn logs_of_a_deleted_subscription_stay_under_all() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.attempt(id, 200).await;
    api.delete(&format!("/webhooks/{id}")).await;
    api.get(&format!("/webhooks/{id}/logs"))
        .await
        .is_problem(404);
    assert_eq!(api.get("/webhooks/logs/all").await.json()["total"], 1);
    let of_b =
        keyed(TestRequest::get().uri("/webhooks/logs/all")).insert_header(("X-Org-Id", "org_b"));
    assert_eq!(api.send(of_b).await.json()["total"], 0);
}

#[actix_web::test]
async fn every_invalid_parameter_is_reported_at_once() {
    let api = TestApi::new().await;
    let bad = "status=x&event_type=y&limit=0&offset=-1&cursor=z&since=now";
    let response = api.get(&format!("/webhooks/logs/all?{bad}")).await;
    assert_eq!(
        response.invalid_fields(),
        "event_type status since limit offset cursor"
    );
    let id = api.subscribe("n").await;
    api.attempt(id, 200).await;
    api.attempt(id, 200).await;
    let page = api.get("/webhooks/logs/all?limit=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let both = api
        .get(&format!("/webhooks/logs/all?cursor={cursor}&offset=0"))
        .await;
    assert_eq!(both.invalid_fields(), "cursor");
}
