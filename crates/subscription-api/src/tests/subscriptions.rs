//! What a customer registers.

use super::*;

#[actix_web::test]
async fn a_subscription_is_created_where_location_says() {
    let world = World::new().await;
    for prefix in ["/v1", ""] {
        let body = json!({
            "name": "Billing", "url": "https://example.com/h", "events": ["workflow.failed"],
            "secret": "hush", "headers": {"X-Team": "quiet"},
        });
        let answer = world.post(&format!("{prefix}/webhooks"), body).await;
        assert_eq!(answer.status, 201);
        assert!(!answer.text.contains("hush") && !answer.text.contains("quiet"));
        let mut created = answer.json();
        let location = format!("{prefix}/webhooks/{}", created["id"]);
        assert_eq!(answer.header("location"), location);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(world.get(&location).await.json(), created);

        let at = created["created_at"].as_str().unwrap();
        assert!(at.ends_with('Z') && Timestamp::parse(at).is_ok());
        assert_eq!(created["created_at"], created["updated_at"]);
        for name in ["id", "created_at", "updated_at"] {
            created[name] = Value::Null;
        }
        insta::allow_duplicates! {
            insta::assert_json_snapshot!(created, @r#"
            {
              "created_at": null,
              "disabled_reason": null,
              "events": [
                "workflow.failed"
              ],
              "has_secret": true,
              "header_names": [
                "X-Team"
              ],
              "id": null,
              "is_active": true,
              "name": "Billing",
              "updated_at": null,
              "url": "https://example.com/h"
            }
            "#);
        }
    }
}

#[actix_web::test]
async fn all_subscriptions_are_one_answer_however_many_there_are() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for count in [99, 100, 250] {
        while ids.len() < count {
            ids.push(world.subscribe("n").await);
        }
        let all = world.get("/v1/webhooks").await;
        assert_eq!(all.header("content-type"), "application/json");
        let all = all.json();
        let listed = all["webhooks"].as_array().unwrap();
        let listed: Vec<_> = listed
            .iter()
            .map(|one| one["id"].as_i64().unwrap())
            .collect();
        assert!(listed.iter().eq(ids.iter().rev()), "{count}");
        let shape = (&all["total"], &all["limit"], &all["offset"]);
        assert_eq!(shape, (&json!(count), &json!(count), &json!(0)));
    }
    for (query, length, limit) in [("offset=20", 230, 250), ("limit=7&offset=248", 2, 7)] {
        let part = world.get(&format!("/webhooks?{query}")).await.json();
        assert_eq!(part["webhooks"].as_array().unwrap().len(), length);
        assert_eq!(
            (&part["total"], &part["limit"]),
            (&json!(250), &json!(limit))
        );
    }
}

#[actix_web::test]
async fn every_bad_field_is_named_at_once() {
    let world = World::new().await;
    let body = r#"{"name":"","url":"http://example.com","events":["workflow.failed","x"],
                   "is_active":1,"id":7,"headers":{"A":"1","A":"2"},"name":"n"}"#;
    let answer = world
        .send(raw(TestRequest::post().uri("/webhooks"), body))
        .await;
    answer.is_problem(422);
    assert_eq!(
        answer.bad_fields(),
        "headers.A name name url events[1] is_active id"
    );
}

#[actix_web::test]
async fn an_organization_has_so_many_subscriptions_and_no_more() {
    let world = World::with(ApiSettings {
        max_subscriptions: 1,
        ..ApiSettings::default()
    })
    .await;
    let first = world.subscribe("first").await;
    let answer = world.post("/webhooks", subscription("second")).await;
    answer.is_problem(422);
    assert!(answer.text.contains("at most 1 subscription"));
    world.delete(&format!("/webhooks/{first}")).await;
    assert_ne!(world.subscribe("again").await, first);
}

#[actix_web::test]
async fn the_list_is_newest_first_and_whole_unless_a_page_is_asked_for() {
    let world = World::new().await;
    for name in ["first", "second", "third"] {
        world.subscribe(name).await;
    }
    let listed = |page: Value| {
        let names: Vec<_> = page["webhooks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        let [total, limit, offset] = ["total", "limit", "offset"].map(|name| &page[name]);
        format!(
            "{} of {total}, limit {limit}, offset {offset}",
            names.join(" ")
        )
    };
    for (query, expected) in [
        ("", "third second first of 3, limit 3, offset 0"),
        ("?limit=2", "third second of 3, limit 2, offset 0"),
        ("?limit=2&offset=2", "first of 3, limit 2, offset 2"),
        ("?offset=1", "second first of 3, limit 3, offset 1"),
        ("?offset=10000", " of 3, limit 3, offset 10000"),
    ] {
        let answer = world.get(&format!("/v1/webhooks{query}")).await;
        assert_eq!(listed(answer.json()), expected, "{query}");
    }
    let bad = world
        .get("/webhooks?limit=101&offset=10001&page=2&limit=1")
        .await;
    assert_eq!(bad.bad_fields(), "limit limit offset page");
}

#[actix_web::test]
async fn a_patch_changes_what_it_names() {
    let world = World::new().await;
    let mut body = subscription("before");
    body["secret"] = json!("hush");
    let before = world.post("/webhooks", body).await.json();
    let path = format!("/webhooks/{}", before["id"]);

    assert_eq!(world.patch(&path, json!({})).await.json(), before);

    let after = world
        .patch(
            &path,
            json!({"name": "after", "is_active": false, "secret": null}),
        )
        .await
        .json();
    assert_eq!(after["name"], "after");
    assert_eq!(after["is_active"], false);
    assert_eq!(after["has_secret"], false);
    assert_eq!(after["disabled_reason"], Value::Null);
    assert_eq!(after["url"], before["url"]);
    assert_ne!(after["updated_at"], before["updated_at"]);
    assert_eq!(world.get(&path).await.json(), after);

    let bad = world
        .patch(&path, json!({"name": null, "events": [], "x": 1}))
        .await;
    assert_eq!(bad.bad_fields(), "name events x");
}

#[actix_web::test]
async fn a_deleted_subscription_is_gone() {
    let world = World::new().await;
    let path = format!("/webhooks/{}", world.subscribe("n").await);
    let answer = world.delete(&path).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    world.get(&path).await.is_problem(404);
    world.delete(&path).await.is_problem(404);
    world.patch(&path, json!({})).await.is_problem(404);
    assert_eq!(world.get("/webhooks").await.json()["total"], 0);
}

/// Sends a change with `If-Match`.
async fn change_if(world: &World, path: &str, tag: &str) -> Answer {
    let request = raw(TestRequest::patch().uri(path), r#"{"secret":"another"}"#);
    world.send(request.insert_header(("If-Match", tag))).await
}

#[actix_web::test]
async fn a_change_that_is_meant_for_another_revision_is_412_and_changes_nothing() {
    let world = World::new().await;
    let created = world.post("/webhooks", subscription("n")).await;
    let path = format!("/webhooks/{}", created.json()["id"]);
    let first = created.header("etag").to_owned();
    assert!(first.starts_with('"') && first.ends_with('"'), "{first}");
    assert_eq!(world.get(&path).await.header("etag"), first);

    // A secret is never shown, and changes the revision all the same.
    let changed = change_if(&world, &path, &first).await;
    assert_eq!(changed.status, 200);
    let second = changed.header("etag").to_owned();
    assert_ne!(second, first);
    for stale in [first.as_str(), "\"no such\"", &format!("W/{second}")] {
        change_if(&world, &path, stale).await.is_problem(412);
        let delete = keyed(TestRequest::delete().uri(&path)).insert_header(("If-Match", stale));
        world.send(delete).await.is_problem(412);
        let get = keyed(TestRequest::get().uri(&path)).insert_header(("If-Match", stale));
        world.send(get).await.is_problem(412);
        let rotate = raw(
            TestRequest::post().uri(&format!("{path}/secret/rotate")),
            "{}",
        );
        let rotate = rotate.insert_header(("If-Match", stale));
        world.send(rotate).await.is_problem(412);
    }
    assert_eq!(world.get(&path).await.header("etag"), second);
    let listed = format!("{first}, {second}");
    let delete = keyed(TestRequest::delete().uri(&path)).insert_header(("If-Match", listed));
    assert_eq!(world.send(delete).await.status, 204);
    change_if(&world, &path, "*").await.is_problem(404);
}

#[actix_web::test]
async fn a_client_that_has_the_revision_is_told_so() {
    let world = World::new().await;
    let created = world.post("/webhooks", subscription("n")).await;
    let path = format!("/webhooks/{}", created.json()["id"]);
    let tag = created.header("etag").to_owned();
    let ask = keyed(TestRequest::get().uri(&path)).insert_header(("If-None-Match", tag.as_str()));
    let answer = world.send(ask).await;
    assert_eq!((answer.status, answer.text.as_str()), (304, ""));
    assert_eq!(answer.header("etag"), tag);
    world.patch(&path, json!({"name": "m"})).await;
    let ask = keyed(TestRequest::get().uri(&path)).insert_header(("If-None-Match", tag.as_str()));
    assert_eq!(world.send(ask).await.status, 200);
}
