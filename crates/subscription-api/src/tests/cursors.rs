//! A cursor belongs to the list that gave it.

use super::*;

/// A list, and what its parameters and its cursor are called.
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

impl World {
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
async fn a_cursor_is_taken_by_its_own_list_alone() {
    let world = World::new().await;
    let [one, other] = [world.subscribe("1").await, world.subscribe("2").await];
    for _ in 0..2 {
        world.attempt(one, 200).await;
        world.attempt(other, 200).await;
    }
    for id in ["evt_1", "evt_2"] {
        assert_eq!(world.take_in(id).await, 2);
    }
    let lists = [
        list("/webhooks"),
        list("/webhooks/logs/all"),
        list(format!("/webhooks/{one}/logs")),
        list(format!("/webhooks/{other}/logs")),
        list(format!("/webhooks/{one}/deliveries")),
        list(format!("/webhooks/{other}/deliveries")),
        of_event("evt_1"),
        of_event("evt_2"),
    ];
    for from in &lists {
        let cursor = world.first_cursor(from).await;
        for to in &lists {
            let path = format!("{}?{}={cursor}", to.path, to.cursor);
            let answer = world.get(&path).await;
            if to.path == from.path {
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(world.get(&format!("/v1{path}")).await.status, 200);
            } else {
                assert_eq!(answer.bad_fields(), to.cursor, "{} to {path}", from.path);
            }
        }
    }
}

#[actix_web::test]
async fn a_cursor_is_of_one_organization_and_no_attempts_cursor_of_a_delivery() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    world.attempt(id, 200).await;
    world.attempt(id, 500).await;
    let all = list("/webhooks/logs/all");
    let cursor = world.first_cursor(&all).await;
    let path = format!("{}?cursor={cursor}", all.path);
    assert_eq!(world.get(&path).await.status, 200);
    let filtered = format!("{path}&status=failed&limit=1");
    assert_eq!(world.get(&filtered).await.status, 200);
    let of_b = keyed(TestRequest::get().uri(&path)).insert_header(("X-Org-Id", "org_b"));
    assert_eq!(world.send(of_b).await.bad_fields(), "cursor");
    let page = world.get("/webhooks/logs/all").await.json();
    let delivery = page["logs"][0]["delivery_id"].as_str().unwrap();
    let attempts = format!("/deliveries/{delivery}?attempts_cursor={cursor}");
    assert_eq!(world.get(&attempts).await.bad_fields(), "attempts_cursor");
}
