//! The filter of lists, and the bodies on their pages.

use super::*;

const LISTS: [(&str, &str); 3] = [
    ("/webhooks/logs/all", "logs"),
    ("/deliveries", "deliveries"),
    ("/events", "events"),
];

fn rows<'a>(page: &'a Value, name: &str) -> &'a Vec<Value> {
    page[name].as_array().unwrap_or_else(|| panic!("{page}"))
}

#[actix_web::test]
async fn every_list_takes_every_condition() {
    let api = TestApi::new().await;
    let [one, other] = [api.subscribe("1").await, api.subscribe("2").await];
    api.attempt(one, 200).await;
    api.attempt(one, 503).await;
    api.attempt(other, 404).await;
    let page = api
        .get("/webhooks/logs/all?response_status=503")
        .await
        .json();
    let event = page["logs"][0]["event_id"].as_str().unwrap();
    let found = [
        ("since=2025-12-21T10:30:00Z".to_owned(), 3),
        ("until=2025-12-21T10:30:00Z".to_owned(), 0),
        ("event_type=workflow.completed".to_owned(), 3),
        ("event_type=workflow.failed".to_owned(), 0),
        (format!("subscription_id={one}"), 2),
        ("subscription_id=99".to_owned(), 0),
        (format!("event_id={event}"), 1),
        ("event_id=nope".to_owned(), 0),
        ("workflow_id=nope".to_owned(), 0),
        ("response_status=503".to_owned(), 1),
        ("response_status=5xx".to_owned(), 1),
        ("response_status=400-599".to_owned(), 2),
        ("error_kind=http_status".to_owned(), 2),
        ("error_kind=timeout".to_owned(), 0),
        ("attempt=1".to_owned(), 3),
        ("attempt=2".to_owned(), 0),
        ("min_duration_ms=12".to_owned(), 3),
        ("min_duration_ms=13".to_owned(), 0),
        (format!("subscription_id={one}&response_status=4xx"), 0),
        (
            format!("event_id={event}&response_status=5xx&error_kind=http_status&attempt=1"),
            1,
        ),
    ];
    for (list, name) in LISTS {
        for (filter, count) in &found {
            let page = api.get(&format!("{list}?{filter}")).await.json();
            assert_eq!(rows(&page, name).len(), *count, "{list}?{filter}: {page}");
            assert_eq!(page["searched_until"], Value::Null);
        }
    }
    for status in ["delivered", "pending"] {
        for (list, name) in &LISTS[1..] {
            let page = api.get(&format!("{list}?status={status}")).await.json();
            assert_eq!(
                rows(&page, name).len(),
                if status == "delivered" { 3 } else { 0 },
                "{list} {status}"
            );
        }
    }
}

#[actix_web::test]
async fn since_after_until_is_refused_everywhere() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let times = "since=2025-12-21T10:30:01Z&until=2025-12-21T10:30:00Z";
    for list in [
        "/webhooks/logs/all".to_owned(),
        format!("/webhooks/{id}/logs"),
        format!("/webhooks/{id}/deliveries"),
        "/deliveries".to_owned(),
        "/events".to_owned(),
    ] {
        let refused = api.get(&format!("{list}?{times}")).await;
        assert_eq!(refused.invalid_fields(), "until", "{list}");
        let far = api.get(&format!("{list}?offset=10001")).await;
        assert_eq!(far.invalid_fields(), "offset", "{list}");
    }
}

#[actix_web::test]
async fn the_list_of_a_subscription_has_no_rows_of_another() {
    let api = TestApi::new().await;
    let [one, other] = [api.subscribe("1").await, api.subscribe("2").await];
    api.attempt(one, 200).await;
    api.attempt(other, 200).await;
    for (kind, name) in [("logs", "logs"), ("deliveries", "deliveries")] {
        for (asked, count) in [(one, 1), (other, 0)] {
            let path = format!("/webhooks/{one}/{kind}?subscription_id={asked}");
            let page = api.get(&path).await.json();
            assert_eq!(
                (rows(&page, name).len(), &page["total"]),
                (count, &json!(count)),
                "{path}"
            );
        }
    }
}

#[actix_web::test]
async fn rows_of_another_organization_are_never_found() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.attempt(id, 200).await;
    let page = api.get("/webhooks/logs/all").await.json();
    let event = page["logs"][0]["event_id"].as_str().unwrap();
    for (list, name) in LISTS {
        for filter in [
            String::new(),
            format!("subscription_id={id}"),
            format!("event_id={event}"),
        ] {
            let request = TestRequest::get().uri(&format!("{list}?{filter}"));
            let page = api
                .send(keyed(request).insert_header(("X-Org-Id", "org_b")))
                .await;
            assert_eq!(rows(&page.json(), name).len(), 0, "{list}?{filter}");
        }
    }
}

#[actix_web::test]
async fn totals_are_numbers_where_a_counter_serves() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.attempt(id, 200).await;
    let logs = "/webhooks/logs/all";
    for (path, total) in [
        (logs.to_owned(), json!(1)),
        (
            format!("{logs}?status=failed&event_type=workflow.completed"),
            json!(0),
        ),
        (format!("{logs}?subscription_id={id}"), json!(1)),
        (format!("{logs}?response_status=200"), Value::Null),
        (format!("{logs}?since=2025-12-21T10:30:00Z"), Value::Null),
        (
            format!("/webhooks/{id}/deliveries?since=2025-12-21T10:30:00Z"),
            json!(1),
        ),
        (format!("/webhooks/{id}/deliveries?attempt=1"), Value::Null),
        ("/deliveries".to_owned(), Value::Null),
        ("/events".to_owned(), Value::Null),
    ] {
        assert_eq!(api.get(&path).await.json()["total"], total, "{path}");
    }
}

#[actix_web::test]
async fn bodies_are_the_default_of_the_log_alone() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.attempt(id, 200).await;
    for (list, name) in LISTS {
        let body = if name == "events" {
            "body"
        } else {
            "request_body"
        };
        for (include, expected) in [
            ("", name == "logs"),
            ("include=bodies", true),
            ("include=none", false),
        ] {
            let page = api.get(&format!("{list}?{include}")).await.json();
            let row = &rows(&page, name)[0];
            assert_eq!(row.get(body).is_some(), expected, "{list}?{include}: {row}");
            let cut = row.get("truncated").cloned();
            assert_eq!(
                cut,
                (expected || name == "logs").then_some(json!(false)),
                "{row}"
            );
            if name == "logs" {
                assert_eq!(row.get("response_body").is_some(), expected, "{row}");
            }
            if expected {
                let text = row[body].as_str().unwrap();
                assert!(text.starts_with("{\"event_id\""), "{text}");
            }
        }
    }
}

#[actix_web::test]
async fn an_event_in_the_list_has_its_fields() {
    let api = TestApi::new().await;
    api.subscribe("n").await;
    assert_eq!(api.store_event("evt_1").await, 1);
    let page = api.get("/events?workflow_id=wf").await.json();
    let mut event = rows(&page, "events")[0].clone();
    assert!(event["received_at"].is_string());
    event.as_object_mut().unwrap().remove("received_at");
    insta::assert_json_snapshot!(event, @r#"
    {
      "event_id": "evt_1",
      "event_type": "workflow.completed",
      "workflow_id": "wf"
    }
    "#);
}
