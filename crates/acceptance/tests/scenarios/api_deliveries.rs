//! Deliveries over the API: the state of each event on its way to a subscription, its end, and the reason.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_core::timestamp::Timestamp;
use hookline_testkit::client::{ApiClient, ApiResponse};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{ReceivedRequest, Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_delivery_shows_its_state_and_its_attempts,
        deliveries_of_a_disabled_subscription_are_skipped,
        deliveries_of_another_organization_are_404,
        an_event_shows_its_deliveries_and_their_states,
        any_event_id_finds_its_event,
    ]
}

/// Three deliveries, newest first: a test that failed, one that waits, and one that arrived.
async fn three(tenant: &Tenant<'_>) -> anyhow::Result<(i64, Receiver)> {
    let receiver = Receiver::with(answer)?;
    let types = ["workflow.completed", "workflow.started"];
    let id = tenant.subscribe(&receiver, &types).await?;
    for (index, event_type) in types.into_iter().enumerate() {
        tenant.publish_one(event_type).await?;
        tenant.client.wait_for_log(id, index + 1).await?;
    }
    let test = format!("/webhooks/{id}/test");
    tenant.client.post(&test, &json!({})).await?.expect(202)?;
    tenant.client.wait_for_log(id, 3).await?;
    Ok((id, receiver))
}

fn answer(request: &ReceivedRequest, _: usize) -> Reply {
    let is_test = String::from_utf8_lossy(&request.body).contains("evt_test_");
    match request.header("x-webhook-event") {
        Ok("workflow.started") => Reply::status(429).with_header("retry-after", "600"),
        _ if is_test => Reply::status(500),
        _ => Reply::status(200),
    }
}

async fn a_delivery_shows_its_state_and_its_attempts(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let (id, receiver) = three(&tenant).await?;
    let path = format!("/webhooks/{id}/deliveries");
    let page = client.get(&path).await?.expect(200)?;
    let all = listed(&page)?;
    ensure!(page.json["total"] == 3 && page.json["limit"] == 50 && page.json["offset"] == 0);
    ensure!(page.json["next_cursor"].is_null() && all.len() == 3);
    let expected = [
        json!({"status": "exhausted", "origin": "test", "exhausted_reason": "out_of_attempts"}),
        json!({"status": "pending", "origin": "event", "exhausted_reason": null, "finished_at": null}),
        json!({"status": "delivered", "origin": "event", "exhausted_reason": null}),
    ];
    let log = client.log_of(id).await?;
    for (delivery, expected) in all.iter().zip(&expected) {
        for (field, value) in expected.as_object().context("fields")? {
            ensure!(delivery[field] == *value, "{field}: {delivery:#}");
        }
        let pending = delivery["status"] == "pending";
        let time = |field: &str| delivery[field].as_str().map(Timestamp::parse).transpose();
        let created = time("created_at")?.context("a time")?;
        ensure!(time("next_attempt_at")?.is_some() == pending, "{delivery}");
        ensure!(time("finished_at")?.is_none_or(|at| at >= created));
        ensure!(time("finished_at")?.is_some() != pending, "{delivery}");
        ensure!(delivery["attempts_made"] == 1 && delivery["subscription_id"] == id);

        let name = delivery["id"].as_str().context("an id")?;
        let mut shown = client
            .get(&format!("/deliveries/{name}"))
            .await?
            .expect(200)?;
        let attempts = shown.json["attempts"].take();
        let entry = log.iter().find(|entry| entry["delivery_id"] == name);
        let entry = entry.context("an entry of the log")?;
        let mut attempt = entry.clone();
        let attempt_fields = attempt.as_object_mut().context("an object")?;
        let body = attempt_fields.remove("request_body");
        attempt_fields.remove("truncated");
        ensure!(attempts == json!([attempt]), "{attempts:#}");
        for field in ["event_id", "event_type"] {
            ensure!(delivery[field] == entry[field], "{field}: {delivery}");
        }
        let next = &delivery["next_attempt_at"];
        ensure!(*next == entry["next_attempt_at"], "{delivery} {entry}");
        let mut with_attempts = delivery.clone();
        with_attempts["attempts"] = Value::Null;
        with_attempts["request_body"] = body.context("a body")?;
        with_attempts["next_attempts_cursor"] = Value::Null;
        ensure!(shown.json == with_attempts, "{:#}", shown.json);
    }
    ensure!(all[2]["id"] == receiver.received()[0].header("webhook-id")?);
    filters_and_pages(client, &path, &all).await
}

async fn filters_and_pages(client: &ApiClient, path: &str, all: &[Value]) -> anyhow::Result<()> {
    let middle = all[1]["created_at"].as_str().context("a time")?;
    let ids = |rows: &[Value]| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    for (query, expected) in [
        ("status=exhausted".to_owned(), &all[..1]),
        ("status=pending".to_owned(), &all[1..2]),
        ("status=delivered".to_owned(), &all[2..]),
        ("status=skipped".to_owned(), &[]),
        ("status=cancelled".to_owned(), &[]),
        ("event_type=workflow.started".to_owned(), &all[1..2]),
        ("event_type=workflow.failed".to_owned(), &[]),
        (format!("since={middle}"), &all[..2]),
        (format!("until={middle}"), &all[2..]),
        (format!("since={middle}&until={middle}"), &[]),
        (format!("since={middle}&status=pending"), &all[1..2]),
    ] {
        let page = client.get(&format!("{path}?{query}")).await?.expect(200)?;
        let (found, total) = (listed(&page)?, &page.json["total"]);
        ensure!(ids(&found) == ids(expected), "{query}: {found:#?}");
        ensure!(*total == expected.len(), "{query}: {total}");
    }
    let mut next = format!("{path}?limit=1");
    for (index, row) in all.iter().enumerate() {
        let page = client.get(&next).await?.expect(200)?;
        ensure!(ids(&listed(&page)?) == [row["id"].clone()] && page.json["total"] == 3);
        let by_offset = format!("{path}?limit=1&offset={index}");
        let by_offset = client.get(&by_offset).await?.expect(200)?;
        ensure!(ids(&listed(&by_offset)?) == [row["id"].clone()]);
        let cursor = page.json["next_cursor"].as_str();
        ensure!(cursor.is_none() == (index + 1 == all.len()));
        next = format!("{path}?limit=1&cursor={}", cursor.unwrap_or_default());
    }
    for (query, bad) in [
        (
            "status=success&event_type=x&since=now&until=2025-12-21&limit=0&page=1",
            vec!["event_type", "limit", "page", "since", "status", "until"],
        ),
        ("cursor=z", vec!["cursor"]),
    ] {
        let refused = client.get(&format!("{path}?{query}")).await?.problem(422)?;
        let mut named = refused.bad_fields();
        named.sort();
        ensure!(named == bad, "{query}: {}", refused.json);
    }
    Ok(())
}

async fn deliveries_of_a_disabled_subscription_are_skipped(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let (id, _receiver) = three(&tenant).await?;
    let subscription = format!("/webhooks/{id}");
    let path = format!("{subscription}/deliveries");
    let waiting = listed(&client.get(&format!("{path}?status=pending")).await?)?;
    let waiting = waiting[0]["id"].as_str().context("an id")?;
    // It stays so when the subscription is switched on again.
    for is_active in [false, true] {
        let body = json!({"is_active": is_active});
        client.patch(&subscription, &body).await?.expect(200)?;
        let skipped = client.get(&format!("{path}?status=skipped")).await?;
        let rows = listed(&skipped)?;
        ensure!(rows.len() == 1 && rows[0]["id"] == waiting, "{rows:#?}");
        ensure!(rows[0]["status"] == "skipped" && rows[0]["next_attempt_at"].is_null());
        let pending = client.get(&format!("{path}?status=pending")).await?;
        ensure!(pending.json["total"] == 0, "{}", pending.json);
    }
    client.delete(&subscription).await?.expect(204)?;
    client.get(&path).await?.problem(404)?;
    let shown = client.get(&format!("/deliveries/{waiting}")).await?;
    let shown = shown.expect(200)?.json;
    ensure!(shown["status"] == "cancelled", "{shown:#}");
    let attempts = shown["attempts"].as_array().context("attempts")?;
    ensure!(attempts.len() == 1, "{shown:#}");
    Ok(())
}

async fn deliveries_of_another_organization_are_404(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let event = tenant.publish_one("workflow.failed").await?;
    let log = tenant.client.wait_for_log(id, 1).await?;
    let delivery = log[0]["delivery_id"].as_str().context("an id")?;
    let organization = tenant.organization.as_str();
    let publisher = deployment
        .key(&["--org", organization, "--scopes", "publish,write"])
        .await?;
    let publisher = tenant.client.with_key(Some(&publisher));
    let without_key = tenant.client.with_key(None);
    for path in [
        format!("/webhooks/{id}/deliveries"),
        format!("/deliveries/{delivery}"),
        format!("/events/{event}"),
    ] {
        tenant.client.get(&path).await?.expect(200)?;
        other.client.get(&path).await?.problem(404)?;
        publisher.get(&path).await?.problem(403)?;
        without_key.get(&path).await?.problem(401)?;
    }
    let simple = delivery.replace('-', "");
    for bad in ["1", "nope", "00000000-0000-0000-0000-000000000000", &simple] {
        let path = format!("/deliveries/{bad}");
        tenant.client.get(&path).await?.problem(404)?;
    }
    let none = tenant.client.get("/webhooks/0/deliveries").await?;
    none.problem(404)?;
    Ok(())
}

async fn an_event_shows_its_deliveries_and_their_states(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let (receiver, gone) = (
        Receiver::with(answer)?,
        Receiver::answering(vec![Reply::status(410)])?,
    );
    let started = &["workflow.started"];
    let gets = tenant
        .subscribe(&Receiver::healthy()?, &["workflow.started"])
        .await?;
    let waits = tenant.subscribe(&receiver, started).await?;
    let gives_up = tenant.subscribe(&gone, started).await?;
    let deleted = tenant.subscribe(&receiver, started).await?;
    let filters = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let off = tenant.subscribe(&receiver, started).await?;
    let inactive = json!({"is_active": false});
    client
        .patch(&format!("/webhooks/{off}"), &inactive)
        .await?
        .expect(200)?;
    let event = tenant.publish_one("workflow.started").await?;
    for id in [gets, waits, gives_up, deleted] {
        client.wait_for_log(id, 1).await?;
    }
    let later = tenant.subscribe(&receiver, started).await?;
    client
        .delete(&format!("/webhooks/{deleted}"))
        .await?
        .expect(204)?;

    let details = client.get(&format!("/events/{event}")).await?.expect(200)?;
    let details = details.json;
    let body = gone.received()[0].body.clone();
    ensure!(details["body"].as_str().map(str::as_bytes) == Some(&*body));
    ensure!(details["event_id"] == event.as_str() && details["event_type"] == "workflow.started");
    Timestamp::parse(details["received_at"].as_str().context("a time")?)?;
    let outcomes = details["subscriptions"]
        .as_array()
        .context("subscriptions")?;
    let expected = [
        (gets, "delivered", "attempt 1 succeeded"),
        (waits, "pending", "attempt 2 is due at "),
        (gives_up, "exhausted", "the receiver answered 410"),
        (
            deleted,
            "cancelled",
            "it was cancelled, or the subscription was deleted",
        ),
        (
            filters,
            "filtered",
            "its events do not include workflow.started",
        ),
        (off, "skipped", "the subscription was inactive when"),
        (later, "created_later", "the subscription was created after"),
    ];
    ensure!(outcomes.len() == expected.len(), "{details:#}");
    for (shown_outcome, (id, outcome, reason)) in outcomes.iter().zip(expected) {
        ensure!(
            shown_outcome["subscription_id"] == id && shown_outcome["outcome"] == outcome,
            "{shown_outcome:#}"
        );
        let text = shown_outcome["reason"].as_str().context("a reason")?;
        ensure!(text.starts_with(reason), "{shown_outcome:#}");
        ensure!(shown_outcome["name"] == "a subscription");
        let has_delivery = shown_outcome["delivery_id"].is_string();
        let made = match (has_delivery, outcome) {
            (false, _) => Value::Null,
            (true, "skipped") => json!(0),
            (true, _) => json!(1),
        };
        ensure!(shown_outcome["attempts_made"] == made, "{shown_outcome:#}");
        if let Some(delivery) = shown_outcome["delivery_id"].as_str() {
            let shown = client.get(&format!("/deliveries/{delivery}")).await?;
            let shown = shown.expect(200)?.json;
            ensure!(shown["status"] == outcome && shown["event_id"] == event.as_str());
            for field in ["next_attempt_at", "finished_at", "exhausted_reason"] {
                ensure!(
                    shown_outcome[field] == shown[field],
                    "{field}: {shown_outcome:#}"
                );
            }
        }
    }

    // A test is for one subscription and says nothing about the others.
    let test = client
        .post(&format!("/webhooks/{off}/test"), &json!({}))
        .await?
        .expect(202)?;
    client.wait_for_log(off, 1).await?;
    let event = test.json["event_id"].as_str().context("an id")?;
    let details = client.get(&format!("/events/{event}")).await?.expect(200)?;
    let outcomes = details.json["subscriptions"].as_array().context("one")?;
    ensure!(outcomes.len() == 1 && outcomes[0]["subscription_id"] == off);
    Ok(())
}

async fn any_event_id_finds_its_event(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let ids = [
        "a/b//c".to_owned(),
        "%41".to_owned(),
        "100% + 1".to_owned(),
        "x?y=z#\"\\;&é\u{1f980}".to_owned(),
        " ".to_owned(),
        "é".repeat(255),
    ];
    let mut events = Vec::new();
    for id in &ids {
        let mut event = tenant.event("workflow.failed");
        event["event_id"] = json!(id);
        events.push(event);
    }
    tenant.publish(&events).await?;
    tenant.client.wait_for_log(id, ids.len()).await?;
    for id in &ids {
        let path = format!("/events/{}", encoded(id.as_bytes()));
        let details = tenant.client.get(&path).await?.expect(200)?.json;
        ensure!(details["event_id"] == id.as_str(), "{id}: {details}");
        ensure!(details["subscriptions"][0]["outcome"] == "delivered");
    }
    for bad in [
        "A".to_owned(),
        encoded(b"a\0"),
        encoded(b"\xff"),
        encoded("é".repeat(256).as_bytes()),
    ] {
        let path = format!("/events/{bad}");
        tenant.client.get(&path).await?.problem(404)?;
    }
    Ok(())
}

fn encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

fn listed(page: &ApiResponse) -> anyhow::Result<Vec<Value>> {
    page.json["deliveries"]
        .as_array()
        .cloned()
        .context("a page without deliveries")
}
