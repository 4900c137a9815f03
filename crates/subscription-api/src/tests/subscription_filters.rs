//! Filters of `GET /webhooks`.

use super::*;

impl TestApi {
    async fn create(&self, change: Value) {
        let mut body = subscription("n");
        let members = body.as_object_mut().unwrap();
        members.extend(change.as_object().unwrap().clone());
        let response = self.post("/webhooks", body).await;
        assert_eq!(response.status, 201, "{response:?}");
    }

    /// The names of the subscriptions that a query finds, and its total.
    async fn names(&self, query: &str) -> String {
        let page = self.get(&format!("/webhooks?{query}")).await.json();
        let rows = page["webhooks"].as_array().unwrap();
        let names: Vec<_> = rows
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        format!("{} of {}", names.join(" "), page["total"])
    }
}

#[actix_web::test]
async fn subscriptions_are_found_by_state_event_type_name_and_url() {
    let api = TestApi::new().await;
    for change in [
        json!({"name": "Billing", "events": ["workflow.failed"]}),
        json!({"name": "audit", "events": ["*"], "url": "https://Audit.example.com/Hooks"}),
        json!({"name": "steps", "events": ["workflow.step.*"], "is_active": false}),
        json!({"name": "BILLS", "events": ["workflow.*"], "is_active": false}),
    ] {
        api.create(change).await;
    }
    for (query, expected) in [
        ("", "BILLS steps audit Billing of 4"),
        ("is_active=true", "audit Billing of 2"),
        ("is_active=false", "BILLS steps of 2"),
        ("event_type=workflow.failed", "BILLS audit Billing of 3"),
        ("event_type=workflow.step.failed", "steps audit of 2"),
        ("name=bill", "BILLS Billing of 2"),
        ("name=bill&is_active=true", "Billing of 1"),
        ("url=AUDIT.example", "audit of 1"),
        ("url=/hooks", "audit of 1"),
        ("name=nothing", " of 0"),
        ("name=bill&limit=1", "BILLS of 2"),
        ("name=bill&limit=1&offset=1", "Billing of 2"),
        ("name=bill&offset=1", "Billing of 2"),
        ("name=bill&offset=7", " of 2"),
    ] {
        assert_eq!(api.names(query).await, expected, "{query}");
    }
    let bad = "/webhooks?is_active=1&event_type=workflow.*&name=&url=";
    let bad = api.get(bad).await;
    assert_eq!(bad.invalid_fields(), "is_active event_type name url");
}

#[actix_web::test]
async fn a_filter_goes_with_a_cursor_and_with_the_streamed_form() {
    let api = TestApi::new().await;
    for index in 0..230 {
        let name = if index % 2 == 0 { "even" } else { "odd" };
        api.create(json!({"name": name})).await;
    }
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api
            .get(&format!("/webhooks?name=even&limit=50{cursor}"))
            .await;
        let page = page.json();
        assert_eq!(page["total"], 115);
        let rows = page["webhooks"].as_array().unwrap();
        found.extend(rows.iter().map(|row| row["id"].as_i64().unwrap()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found.len(), 115);
    assert!(found.is_sorted_by(|one, next| one > next), "{found:?}");
    for (offset, expected) in [(0, &found[..]), (5, &found[5..])] {
        let all = api
            .get(&format!("/webhooks?name=even&offset={offset}"))
            .await
            .json();
        let rows = all["webhooks"].as_array().unwrap().iter();
        let ids: Vec<_> = rows.map(|row| row["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, expected);
        assert_eq!((&all["total"], &all["limit"]), (&json!(115), &json!(115)));
    }
}
