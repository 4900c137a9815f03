//! Numbers.

use super::*;

/// Removes the steps without an attempt, and what differs in each run.
fn filled(mut stats: Value) -> Value {
    for series in stats["series"].as_array_mut().unwrap() {
        let points = series["points"].as_array_mut().unwrap();
        points.retain(|point| point["attempts"] != 0);
        for point in points {
            point.as_object_mut().unwrap().remove("at").unwrap();
        }
    }
    for name in ["since", "until"] {
        stats.as_object_mut().unwrap().remove(name).unwrap();
    }
    stats
}

#[actix_web::test]
async fn numbers_have_all_their_fields() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.attempt(id, 200).await;
    let response = api.get("/v1/stats?group_by=code_class").await;
    assert_eq!(response.status, 200);
    let numbers = json!({
        "attempts": 1, "failed_attempts": 0,
        "delivered": 1, "exhausted": 0, "skipped": 0, "cancelled": 0,
        "duration_ms": {"p50": 15.0, "p95": 15.0, "p99": 15.0},
    });
    let mut shown = filled(response.json());
    let series = &mut shown["series"][0];
    for numbers in ["/total", "/points/0"] {
        let numbers = series
            .pointer_mut(numbers)
            .unwrap()
            .as_object_mut()
            .unwrap();
        assert!(numbers.remove("latency_ms").unwrap()["p50"].is_number());
    }
    let expected = json!({
        "step": "1h", "group_by": "code_class",
        "series": [{
            "subscription_id": null, "event_type": null, "outcome": null, "code_class": "2xx", "error_kind": null,
            "total": numbers, "points": [numbers],
        }],
        "current": {"pending": 0, "waiting": [], "capped": false, "oldest_due_at": null},
    });
    assert_eq!(shown, expected);
}

#[actix_web::test]
async fn steps_without_a_count_are_there() {
    let api = TestApi::new().await;
    let day = "since=2025-12-01T10:00:00Z&until=2025-12-02T10:00:00Z";
    let stats = api.get(&format!("/stats?{day}")).await.json();
    let series = stats["series"].as_array().unwrap();
    assert_eq!(series.len(), 1);
    let points = series[0]["points"].as_array().unwrap();
    assert_eq!(points.len(), 24);
    assert_eq!(points[1]["at"], "2025-12-01T11:00:00Z");
    assert_eq!(
        (&points[1]["attempts"], &points[1]["duration_ms"]),
        (&json!(0), &Value::Null)
    );
    let grouped = api
        .get(&format!("/stats?{day}&group_by=outcome"))
        .await
        .json();
    assert_eq!(grouped["series"], json!([]));
}

#[actix_web::test]
async fn a_subscription_of_another_organization_is_unknown() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let path = format!("/stats?subscription_id={id}");
    assert_eq!(api.get(&path).await.status, 200);
    let of_b = TestRequest::get()
        .uri(&path)
        .insert_header(("X-Org-Id", "org_b"));
    api.send(keyed(of_b)).await.is_problem(404);
    api.get("/stats?subscription_id=999").await.is_problem(404);
}

#[actix_web::test]
async fn a_time_with_too_many_steps_is_refused() {
    let api = TestApi::new().await;
    let refused = api
        .get("/stats?since=2025-01-01T00:00:00Z&until=2025-12-01T00:00:00Z")
        .await;
    refused.is_problem(422);
    assert_eq!(refused.invalid_fields(), "step");
    let minutes = api
        .get("/stats?since=2025-01-01T00:00:00Z&until=2025-01-01T01:00:00Z&step=1m")
        .await;
    assert_eq!(minutes.invalid_fields(), "since");
}
