//! A page of subscriptions is at most 1 MiB, however long their names, URLs and headers are.

use super::*;

const MEBIBYTE: usize = 1024 * 1024;

/// The longest subscription, with characters of four bytes where they are allowed.
fn longest() -> Value {
    let host = "https://example.com/";
    let headers = (0..20).map(|n| (format!("x-{n}-{}", "h".repeat(395)), json!("v")));
    json!({
        "name": "🦀".repeat(255),
        "url": format!("{host}{}", "🦀".repeat(2048 - host.len())),
        "events": ["workflow.completed"],
        "headers": headers.collect::<serde_json::Map<_, _>>(),
    })
}

fn ids(page: &Value) -> Vec<i64> {
    let rows = page["webhooks"].as_array().unwrap().iter();
    rows.map(|row| row["id"].as_i64().unwrap()).collect()
}

#[actix_web::test]
async fn a_page_of_subscriptions_is_at_most_a_mebibyte_and_leaves_no_row_out() {
    let api = TestApi::new().await;
    let mut all = Vec::new();
    for _ in 0..100 {
        let made = api.post("/webhooks", longest()).await;
        assert_eq!(made.status, 201, "{made:?}");
        all.insert(0, made.json()["id"].as_i64().unwrap());
    }
    let by_offset = api.get("/webhooks?limit=100").await;
    assert!(by_offset.text.len() <= MEBIBYTE, "{}", by_offset.text.len());
    let page = by_offset.json();
    assert_eq!(ids(&page), all);
    assert_eq!(
        (&page["total"], &page["next_cursor"]),
        (&json!(100), &json!(null))
    );
    let rows = page["webhooks"].as_array().unwrap();
    let names = |row: &Value| row["header_names"].as_array().unwrap().len();
    for row in rows {
        assert_eq!(row["truncated"] == true, names(row) < 20);
    }
    assert_eq!((names(&rows[0]), names(&rows[99])), (20, 0));
    let last = api.get(&format!("/webhooks/{}", all[99])).await.json();
    assert_eq!(names(&last), 20);

    let first = api.get("/webhooks?limit=1").await.json();
    let (mut by_cursor, mut next) = (ids(&first), first["next_cursor"].clone());
    while let Some(cursor) = next.as_str() {
        let path = format!("/webhooks?limit=100&cursor={cursor}");
        let response = api.get(&path).await;
        assert!(response.text.len() <= MEBIBYTE, "{}", response.text.len());
        let page = response.json();
        let rows = page["webhooks"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["truncated"].is_null()));
        assert!((1..99).contains(&rows.len()));
        assert_eq!((&page["limit"], &page["offset"]), (&json!(100), &json!(0)));
        by_cursor.extend(ids(&page));
        next = page["next_cursor"].clone();
    }
    assert_eq!(by_cursor, all);

    // The only response without a size limit.
    let whole = api.get("/webhooks").await;
    assert!(whole.text.len() > MEBIBYTE);
    let page = whole.json();
    assert_eq!(ids(&page), all);
    let rows = page["webhooks"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["truncated"].is_null()));
}
