//! A cursor is valid only for its list.

use super::*;

/// A list and the names of its parameters.
struct List {
    path: String,
    limit: &'static str,
    cursor: &'static str,
    next: &'static str,
}

fn list(path: impl Into<String>) -> List {
    List {
        path: path.into(),
        limit: "limit",
        cursor: "cursor",
        next: "next_cursor",
    }
}

fn of_event(id: &str) -> List {
    List {
        path: format!("/events/{id}"),
        limit: "deliveries_limit",
        cursor: "deliveries_cursor",
        next: "next_deliveries_cursor",
    }
}

impl TestApi {
    async fn first_cursor(&self, list: &List) -> String {
        let page = self.get(&format!("{}?{}=1", list.path, list.limit)).await;
        let page = page.json();
        let cursor = page[list.next].as_str();
        cursor
            .unwrap_or_else(|| panic!("{}: {page}", list.path))
            .to_owned()
    }
}

#[actix_web::test]
async fn a_cursor_is_valid_only_for_its_list() {
    let api = TestApi::new().await;
    let [one, other] = [api.subscribe("1").await, api.subscribe("2").await];
    for _ in 0..2 {
        api.attempt(one, 200).await;
        api.attempt(other, 200).await;
    }
    for id in ["evt_1", "evt_2"] {
        assert_eq!(api.store_event(id).await, 2);
    }
    let lists = [
        list("/webhooks"),
        list("/webhooks/logs/all"),
        list(format!("/webhooks/{one}/logs")),
        list(format!("/webhooks/{other}/logs")),
        list(format!("/webhooks/{one}/deliveries")),
        list(format!("/webhooks/{other}/deliveries")),
        list("/deliveries"),
        list("/events"),
        of_event("evt_1"),
        of_event("evt_2"),
    ];
    for from in &lists {
        let cursor = api.first_cursor(from).await;
        for to in &lists {
            let path = format!("{}?{}={cursor}", to.path, to.cursor);
            let response = api.get(&path).await;
            if to.path == from.path {
                assert_eq!(response.status, 200, "{response:?}");
                assert_eq!(api.get(&format!("/v1{path}")).await.status, 200);
            } else {
                assert_eq!(
                    response.invalid_fields(),
                    to.cursor,
                    "{} to {path}",
                    from.path
                );
            }
        }
    }
}

#[actix_web::test]
async fn a_cursor_of_the_log_is_invalid_for_another_organization_and_for_a_delivery() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.attempt(id, 200).await;
    api.attempt(id, 500).await;
    let all = list("/webhooks/logs/all");
    let cursor = api.first_cursor(&all).await;
    let path = format!("{}?cursor={cursor}", all.path);
    assert_eq!(api.get(&path).await.status, 200);
    let filtered = format!("{path}&status=failed&limit=1");
    assert_eq!(api.get(&filtered).await.status, 200);
    let of_b = keyed(TestRequest::get().uri(&path)).insert_header(("X-Org-Id", "org_b"));
    assert_eq!(api.send(of_b).await.invalid_fields(), "cursor");
    let page = api.get("/webhooks/logs/all").await.json();
    let delivery = page["logs"][0]["delivery_id"].as_str().unwrap();
    let attempts = format!("/deliveries/{delivery}?attempts_cursor={cursor}");
    assert_eq!(api.get(&attempts).await.invalid_fields(), "attempts_cursor");
}
