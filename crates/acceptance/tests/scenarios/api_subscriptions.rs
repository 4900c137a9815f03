//! A subscription over the API: made, shown, changed, listed, removed.

mod changing;

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_core::timestamp::Timestamp;
use hookline_testkit::client::ApiResponse;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::Receiver;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

use crate::subscription_fields::{self, fields};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_subscription_is_shown_under_both_prefixes_without_its_secrets,
        changing::a_patch_distinguishes_absent_from_null,
        changing::the_next_request_shows_what_a_patch_changed,
        changing::enabling_a_subscription_clears_the_disabled_reason,
        a_deleted_subscription_is_404_and_its_id_is_never_reused,
        the_list_is_newest_first_and_in_pages,
        the_list_is_filtered_by_state_type_name_and_url,
        the_next_event_after_a_201_finds_the_subscription,
    ]
}

async fn a_subscription_is_shown_under_both_prefixes_without_its_secrets(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let (api, key) = (deployment.api(), &tenant.client);
    let prefixes = [("/v1", key.clone()), ("", key.at(&api))];
    for (prefix, client) in &prefixes {
        let created = client
            .post("/webhooks", &subscription_fields::created())
            .await?
            .expect(201)?;
        let id = created.json["id"].as_i64().context("an id")?;
        ensure!(created.header("location") == format!("{prefix}/webhooks/{id}"));
        ensure!(created.header("content-type") == "application/json");
        let mut expected = json!({
            "id": id, "created_at": created.json["created_at"], "updated_at": created.json["created_at"],
            "disabled_reason": null,
        });
        for field in fields() {
            let (member, value) = field.shown(&field.created);
            expected[member] = value;
        }
        ensure!(created.json == expected, "{created:?}");
        moment(&created.json["created_at"])?;

        let path = format!("/webhooks/{id}");
        for (_, client) in &prefixes {
            let changed = client.patch(&path, &json!({})).await?.expect(200)?;
            let shown = client.get(&path).await?.expect(200)?;
            let listed = client.get("/webhooks?limit=1").await?.expect(200)?;
            ensure!(shown.json == expected && changed.json == expected);
            ensure!(listed.json["webhooks"] == json!([expected]));
        }
        let deleted = client.delete(&path).await?.expect(204)?;
        ensure!(deleted.json.is_null() && deleted.header("content-type").is_empty());
    }

    let least = json!({"name": "n", "url": "https://example.com", "events": ["workflow.failed"]});
    let created = key.post("/webhooks", &least).await?.expect(201)?.json;
    ensure!(created["is_active"] == true && created["header_names"] == json!([]));
    ensure!(created["disabled_reason"].is_null());
    for field in fields().iter().filter(|field| field.is_nullable()) {
        let (member, value) = field.shown(&Value::Null);
        ensure!(created.get(member) == Some(&value), "{member}: {created}");
    }
    Ok(())
}

async fn a_deleted_subscription_is_404_and_its_id_is_never_reused(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let id = client.subscribe(&pointing("https://example.com")).await?;
        ensure!(!seen.contains(&id), "{id} came back");
        seen.push(id);
        client
            .delete(&format!("/webhooks/{id}"))
            .await?
            .expect(204)?;
    }
    for id in seen {
        let path = format!("/webhooks/{id}");
        client.get(&path).await?.problem(404)?;
        client
            .patch(&path, &json!({"name": "back"}))
            .await?
            .problem(404)?;
        client.delete(&path).await?.problem(404)?;
        client.get(&format!("{path}/logs")).await?.problem(404)?;
        client
            .post(&format!("{path}/test"), &json!({}))
            .await?
            .problem(404)?;
    }
    let listed = client.get("/webhooks").await?.expect(200)?.json;
    ensure!(
        listed == json!({"webhooks": [], "total": 0, "limit": 0, "offset": 0, "next_cursor": null}),
        "{listed}"
    );
    Ok(())
}

async fn the_list_is_filtered_by_state_type_name_and_url(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    other
        .client
        .subscribe(&pointing("https://audit.example.com"))
        .await?;
    let mut ids_of = Vec::new();
    for (name, url, events, is_active) in [
        ("Bücher", "https://books.example.com/in", "workflow.*", true),
        ("audit", "https://Audit.example.com/in", "*", true),
        (
            "BÜCHER 2",
            "https://books.example.com/two",
            "workflow.step.failed",
            false,
        ),
    ] {
        let body = json!({"name": name, "url": url, "events": [events], "is_active": is_active});
        ids_of.insert(0, tenant.client.subscribe(&body).await?);
    }
    for (query, expected) in [
        ("is_active=true", &[1, 2][..]),
        ("event_type=workflow.failed", &[1, 2]),
        ("event_type=workflow.step.failed", &[0, 1]),
        ("name=b%C3%BCcher", &[0, 2]),
        ("url=AUDIT", &[1]),
        ("url=example.com/in&name=b%C3%9C&is_active=true", &[2]),
        ("name=no%20such", &[]),
    ] {
        let expected: Vec<i64> = expected.iter().map(|place| ids_of[*place]).collect();
        for form in ["", "&limit=10"] {
            let page = tenant
                .client
                .get(&format!("/webhooks?{query}{form}"))
                .await?
                .expect(200)?;
            ensure!(ids(&page) == expected, "{query}: {:?}", ids(&page));
            ensure!(
                page.json["total"] == expected.len(),
                "{query}: {}",
                page.json
            );
        }
    }
    let first = tenant
        .client
        .get("/webhooks?name=b%C3%BC&limit=1")
        .await?
        .expect(200)?;
    let cursor = first.json["next_cursor"].as_str().context("a cursor")?;
    let query = format!("/webhooks?name=b%C3%BC&limit=1&cursor={cursor}");
    let second = tenant.client.get(&query).await?.expect(200)?;
    ensure!(ids(&second) == [ids_of[2]] && second.json["next_cursor"].is_null());
    Ok(())
}

async fn the_list_is_newest_first_and_in_pages(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    const COUNT: usize = 102;
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let mut newest_first = Vec::new();
    for _ in 0..COUNT {
        newest_first.insert(0, client.subscribe(&pointing("https://example.com")).await?);
    }
    for (query, limit, offset) in [
        ("", COUNT, 0),
        ("?offset=100", COUNT, 100),
        ("?limit=1", 1, 0),
        ("?limit=100", 100, 0),
        ("?limit=100&offset=100", 100, 100),
        ("?limit=100&offset=0", 100, 0),
        ("?offset=102", COUNT, 102),
        ("?limit=5&offset=10000", 5, 10_000),
    ] {
        let page = client
            .get(&format!("/webhooks{query}"))
            .await?
            .expect(200)?;
        let expected: Vec<i64> = newest_first
            .iter()
            .copied()
            .skip(offset)
            .take(limit)
            .collect();
        ensure!(ids(&page) == expected, "{query}: {:?}", ids(&page));
        let (total, shown) = (
            &page.json["total"],
            [&page.json["limit"], &page.json["offset"]],
        );
        ensure!(
            total == COUNT && shown[0] == limit && shown[1] == offset,
            "{query}: {shown:?}"
        );
    }
    for (query, bad) in [
        ("limit=0", vec!["limit"]),
        ("limit=101", vec!["limit"]),
        ("limit=-1&offset=-1", vec!["limit", "offset"]),
        ("limit=&offset=1.0", vec!["limit", "offset"]),
        ("offset=0&offset=1", vec!["offset"]),
        ("page=2&cursor=a", vec!["cursor", "page"]),
    ] {
        let refused = client
            .get(&format!("/webhooks?{query}"))
            .await?
            .problem(422)?;
        ensure!(refused.bad_fields() == bad, "{query}: {}", refused.json);
    }
    Ok(())
}

async fn the_next_event_after_a_201_finds_the_subscription(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const TIMES: usize = 20;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let mut firsts = Vec::new();
    for number in 0..TIMES {
        let url = receiver.url(&format!("/{number}"));
        tenant.client.subscribe(&pointing(&url)).await?;
        firsts.push(tenant.publish_one("workflow.failed").await?);
    }
    for (number, event) in firsts.iter().enumerate() {
        let path = format!("/{number}");
        until("each subscription to get its first event", async || {
            let found = receiver.received().into_iter().find(|request| {
                let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                request.path == path && body["event_id"] == event.as_str()
            });
            Ok(found)
        })
        .await
        .context(path.clone())?;
    }
    Ok(())
}

fn pointing(url: &str) -> Value {
    json!({"name": "n", "url": url, "events": ["workflow.failed"]})
}

fn ids(page: &ApiResponse) -> Vec<i64> {
    let rows = page.json["webhooks"].as_array();
    rows.into_iter()
        .flatten()
        .filter_map(|row| row["id"].as_i64())
        .collect()
}

/// A time as the contract writes it: UTC with `Z`, microseconds at most.
fn moment(value: &Value) -> anyhow::Result<Timestamp> {
    let text = value.as_str().context("no time")?;
    let time = Timestamp::parse(text)?;
    ensure!(
        text.ends_with('Z') && text.len() <= "2025-12-21T10:30:00.123456Z".len(),
        "{text}"
    );
    Ok(time)
}
