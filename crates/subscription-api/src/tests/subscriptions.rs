//! Subscriptions.

use super::*;

#[actix_web::test]
async fn a_created_subscription_is_at_its_location() {
    let api = TestApi::new().await;
    for prefix in ["/v1", ""] {
        let body = json!({
            "name": "Billing", "url": "https://example.com/h", "events": ["workflow.failed"],
            "secret": "hush", "headers": {"X-Team": "quiet"},
        });
        let response = api.post(&format!("{prefix}/webhooks"), body).await;
        assert_eq!(response.status, 201);
        assert!(!response.text.contains("hush") && !response.text.contains("quiet"));
        let mut created = response.json();
        let location = format!("{prefix}/webhooks/{}", created["id"]);
        assert_eq!(response.header("location"), location);
        assert_eq!(response.header("cache-control"), "no-store");
        assert_eq!(response.header("x-content-type-options"), "nosniff");
        assert_eq!(api.get(&location).await.json(), created);

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
              "description": "",
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
              "metadata": {},
              "name": "Billing",
              "updated_at": null,
              "url": "https://example.com/h"
            }
            "#);
        }
    }
}

#[actix_web::test]
async fn a_generated_secret_is_shown_once() {
    let api = TestApi::new().await;
    let mut body = subscription("n");
    body["secret"] = json!({"generate": true});
    let created = api.post("/webhooks", body).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.header("cache-control"), "no-store");
    let mut created = created.json();
    let secret = created["secret"].as_str().unwrap().to_owned();
    assert!(
        secret.starts_with("whsec_") && secret.len() == 50,
        "{secret}"
    );
    let path = format!("/webhooks/{}", created["id"]);
    created.as_object_mut().unwrap().remove("secret");
    assert_eq!(api.get(&path).await.json(), created);
    assert_eq!(created["has_secret"], true);

    let mut body = subscription("n");
    body["secret"] = json!("hush");
    let created = api.post("/webhooks", body).await.json();
    assert_eq!(created.get("secret"), None);
    for bad in [
        json!({"generate": false}),
        json!({}),
        json!({"generate": true, "x": 1}),
    ] {
        let mut body = subscription("n");
        body["secret"] = bad;
        let refused = api.post("/webhooks", body).await;
        assert_eq!(refused.invalid_fields(), "secret");
    }
    let patch = json!({"secret": {"generate": true}});
    assert_eq!(api.patch(&path, patch).await.invalid_fields(), "secret");
}

#[actix_web::test]
async fn a_page_with_the_longest_texts_cuts_them_and_stays_within_a_mebibyte() {
    let api = TestApi::new().await;
    let metadata: serde_json::Map<String, Value> = (0..16)
        .map(|index| {
            (
                format!("{index:02}{}", "😀".repeat(62)),
                json!("😀".repeat(255)),
            )
        })
        .collect();
    let body = json!({
        "name": "😀".repeat(255), "url": "https://example.com/h", "events": ["*"],
        "description": "\n".repeat(1_024), "metadata": metadata,
    });
    let mut last = 0;
    for _ in 0..100 {
        last = api.post("/webhooks", body.clone()).await.json()["id"]
            .as_i64()
            .unwrap();
    }
    let page = api.get("/webhooks?limit=100").await;
    assert!(page.text.len() <= 1024 * 1024, "{}", page.text.len());
    let rows = page.json()["webhooks"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 100);
    assert!(rows.iter().any(|row| row["truncated"] == true));
    let whole = api.get(&format!("/webhooks/{last}")).await.json();
    assert_eq!(whole["metadata"], body["metadata"]);
    assert_eq!(whole["description"], body["description"]);
}

#[actix_web::test]
async fn all_subscriptions_are_one_response_without_a_limit() {
    let api = TestApi::new().await;
    let mut ids = Vec::new();
    for count in [99, 100, 250] {
        while ids.len() < count {
            ids.push(api.subscribe("n").await);
        }
        let all = api.get("/v1/webhooks").await;
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
        let part = api.get(&format!("/webhooks?{query}")).await.json();
        assert_eq!(part["webhooks"].as_array().unwrap().len(), length);
        assert_eq!(
            (&part["total"], &part["limit"]),
            (&json!(250), &json!(limit))
        );
    }
}

#[actix_web::test]
async fn every_bad_field_is_named_at_once() {
    let api = TestApi::new().await;
    let body = r#"{"name":"","url":"http://example.com","events":["workflow.failed","x"],
                   "is_active":1,"id":7,"headers":{"A":"1","A":"2"},"name":"n"}"#;
    let response = api
        .send(raw(TestRequest::post().uri("/webhooks"), body))
        .await;
    response.is_problem(422);
    assert_eq!(
        response.invalid_fields(),
        "headers.A name name url events[1] is_active id"
    );
}

#[actix_web::test]
async fn the_number_of_subscriptions_of_an_organization_is_limited() {
    let api = TestApi::with(ApiConfig {
        max_subscriptions: 1,
        ..ApiConfig::default()
    })
    .await;
    let first = api.subscribe("first").await;
    let response = api.post("/webhooks", subscription("second")).await;
    response.is_problem(422);
    assert!(response.text.contains("at most 1 subscription"));
    api.delete(&format!("/webhooks/{first}")).await;
    assert_ne!(api.subscribe("again").await, first);
}

#[actix_web::test]
async fn the_list_is_newest_first_and_complete_without_a_limit() {
    let api = TestApi::new().await;
    for name in ["first", "second", "third"] {
        api.subscribe(name).await;
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
        let response = api.get(&format!("/v1/webhooks{query}")).await;
        assert_eq!(listed(response.json()), expected, "{query}");
    }
    let bad = api
        .get("/webhooks?limit=101&offset=10001&page=2&limit=1")
        .await;
    assert_eq!(bad.invalid_fields(), "limit limit offset page");
}

#[actix_web::test]
async fn a_patch_changes_only_its_fields() {
    let api = TestApi::new().await;
    let mut body = subscription("before");
    body["secret"] = json!("hush");
    let before = api.post("/webhooks", body).await.json();
    let path = format!("/webhooks/{}", before["id"]);

    assert_eq!(api.patch(&path, json!({})).await.json(), before);

    let after = api
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
    assert_eq!(api.get(&path).await.json(), after);

    let bad = api
        .patch(&path, json!({"name": null, "events": [], "x": 1}))
        .await;
    assert_eq!(bad.invalid_fields(), "name events x");
}

#[actix_web::test]
async fn a_deleted_subscription_is_gone() {
    let api = TestApi::new().await;
    let path = format!("/webhooks/{}", api.subscribe("n").await);
    let response = api.delete(&path).await;
    assert_eq!((response.status, response.text.as_str()), (204, ""));
    api.get(&path).await.is_problem(404);
    api.delete(&path).await.is_problem(404);
    api.patch(&path, json!({})).await.is_problem(404);
    assert_eq!(api.get("/webhooks").await.json()["total"], 0);
}

/// Sends a change with `If-Match`.
async fn change_if(api: &TestApi, path: &str, tag: &str) -> TestResponse {
    let request = raw(TestRequest::patch().uri(path), r#"{"secret":"another"}"#);
    api.send(request.insert_header(("If-Match", tag))).await
}

#[actix_web::test]
async fn a_change_of_another_revision_is_412_and_changes_nothing() {
    let api = TestApi::new().await;
    let created = api.post("/webhooks", subscription("n")).await;
    let path = format!("/webhooks/{}", created.json()["id"]);
    let first = created.header("etag").to_owned();
    assert!(first.starts_with('"') && first.ends_with('"'), "{first}");
    assert_eq!(api.get(&path).await.header("etag"), first);

    // A change of the secret is a new revision, too.
    let changed = change_if(&api, &path, &first).await;
    assert_eq!(changed.status, 200);
    let second = changed.header("etag").to_owned();
    assert_ne!(second, first);
    for stale in [first.as_str(), "\"no such\"", &format!("W/{second}")] {
        change_if(&api, &path, stale).await.is_problem(412);
        let delete = keyed(TestRequest::delete().uri(&path)).insert_header(("If-Match", stale));
        api.send(delete).await.is_problem(412);
        let get = keyed(TestRequest::get().uri(&path)).insert_header(("If-Match", stale));
        api.send(get).await.is_problem(412);
        let rotate = raw(
            TestRequest::post().uri(&format!("{path}/secret/rotate")),
            "{}",
        );
        let rotate = rotate.insert_header(("If-Match", stale));
        api.send(rotate).await.is_problem(412);
    }
    assert_eq!(api.get(&path).await.header("etag"), second);
    let listed = format!("{first}, {second}");
    let delete = keyed(TestRequest::delete().uri(&path)).insert_header(("If-Match", listed));
    assert_eq!(api.send(delete).await.status, 204);
    change_if(&api, &path, "*").await.is_problem(404);
}

#[actix_web::test]
async fn a_client_that_has_the_current_revision_gets_304() {
    let api = TestApi::new().await;
    let created = api.post("/webhooks", subscription("n")).await;
    let path = format!("/webhooks/{}", created.json()["id"]);
    let tag = created.header("etag").to_owned();
    let ask = keyed(TestRequest::get().uri(&path)).insert_header(("If-None-Match", tag.as_str()));
    let response = api.send(ask).await;
    assert_eq!((response.status, response.text.as_str()), (304, ""));
    assert_eq!(response.header("etag"), tag);
    api.patch(&path, json!({"name": "m"})).await;
    let ask = keyed(TestRequest::get().uri(&path)).insert_header(("If-None-Match", tag.as_str()));
    assert_eq!(api.send(ask).await.status, 200);
}
