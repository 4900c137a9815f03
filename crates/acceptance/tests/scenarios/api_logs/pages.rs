//! How the log is read: filters, totals, pages.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_core::timestamp::Timestamp;
use hookline_testkit::client::{ApiClient, ApiResponse};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

pub(super) async fn totals_and_pages_are_exact_under_every_filter(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let [both, started] = eleven_entries(&tenant).await?;
    let all = client.get("/webhooks/logs/all").await?.expect(200)?;
    let entries = entries(&all)?;
    let position = |entry: &Value| entry["created_at"].as_str().map(str::to_owned);
    ensure!(all.json["total"] == 11 && all.json["limit"] == 50 && all.json["offset"] == 0);
    ensure!(all.json["next_cursor"].is_null() && entries.len() == 11);
    ensure!(
        entries.is_sorted_by(|newer, older| moment(newer) >= moment(older)),
        "{:?}",
        entries.iter().map(position).collect::<Vec<_>>()
    );

    let types = [
        None,
        Some("workflow.failed"),
        Some("workflow.started"),
        Some("workflow.completed"),
        Some("workflow.step.started"),
    ];
    for subscription in [None, Some(both), Some(started)] {
        let path = subscription.map_or("/webhooks/logs/all".to_owned(), |id| {
            format!("/webhooks/{id}/logs")
        });
        for event_type in types {
            for status in [None, Some("success"), Some("failed")] {
                let wanted = |entry: &&Value| {
                    subscription.is_none_or(|id| entry["subscription_id"] == id)
                        && event_type.is_none_or(|name| entry["event_type"] == name)
                        && status.is_none_or(|status| entry["status"] == status)
                };
                let expected: Vec<_> = entries.iter().filter(wanted).cloned().collect();
                let filters: String = [("event_type", event_type), ("status", status)]
                    .iter()
                    .filter_map(|(name, value)| Some(format!("&{name}={}", (*value)?)))
                    .collect();
                for limit in [3, 100] {
                    let start = format!("{path}?limit={limit}{filters}");
                    let by_offset = paged(client, &start, Turn::Offset, expected.len()).await?;
                    let by_cursor = paged(client, &start, Turn::Cursor, expected.len()).await?;
                    ensure!(by_offset == expected, "{start} by offset");
                    ensure!(by_cursor == expected, "{start} by cursor");
                }
            }
        }
    }
    Ok(())
}

pub(super) async fn a_cursor_continues_where_it_stopped_while_entries_arrive(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let client = &tenant.client;
    let [both, started] = eleven_entries(&tenant).await?;
    let before = entries(&client.get("/webhooks/logs/all").await?)?;
    let first = client
        .get("/webhooks/logs/all?limit=4")
        .await?
        .expect(200)?;
    let cursor = first.json["next_cursor"].as_str().context("a cursor")?;

    client
        .post(&format!("/webhooks/{started}/test"), &json!({}))
        .await?
        .expect(202)?;
    client.wait_for_log(started, 5).await?;
    let rest = client
        .get(&format!("/webhooks/logs/all?limit=100&cursor={cursor}"))
        .await?
        .expect(200)?;
    ensure!(entries(&rest)? == before[4..] && rest.json["total"] == 12 && rest.json["offset"] == 0);
    ensure!(rest.json["next_cursor"].is_null());

    // It belongs to its list.
    let of_both = format!("/webhooks/{both}/logs?cursor={cursor}");
    let of_other = format!("/webhooks/logs/all?cursor={cursor}");
    for refused in [
        client.get(&of_both).await?,
        other.client.get(&of_other).await?,
    ] {
        ensure!(refused.problem(422)?.bad_fields() == ["cursor"]);
    }
    Ok(())
}

pub(super) async fn a_page_has_1_to_100_entries(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let receiver = Receiver::healthy()?;
    let id = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let events = tenant.events("workflow.started", 102);
    client.post("/events", &json!(events)).await?.expect(202)?;
    receiver.wait_for(events.len()).await?;
    let last = format!("/webhooks/{id}/logs?offset=101&limit=1");
    until("the last entry", async || {
        Ok((entries(&client.get(&last).await?)?.len() == 1).then_some(()))
    })
    .await?;
    for path in [
        "/webhooks/logs/all".to_owned(),
        format!("/webhooks/{id}/logs"),
    ] {
        for (query, limit, offset, count) in [
            ("", 50, 0, 50),
            ("limit=1", 1, 0, 1),
            ("limit=100", 100, 0, 100),
            ("limit=99&offset=0", 99, 0, 99),
            ("offset=101", 50, 101, 1),
            ("offset=102&limit=100", 100, 102, 0),
            ("offset=10000", 50, 10_000, 0),
        ] {
            let page = client.get(&format!("{path}?{query}")).await?.expect(200)?;
            ensure!(
                entries(&page)?.len() == count,
                "{path}?{query}: {}",
                entries(&page)?.len()
            );
            ensure!(
                page.json["limit"] == limit
                    && page.json["offset"] == offset
                    && page.json["total"] == 102
            );
            ensure!(
                page.json["next_cursor"].is_null() == (offset + count >= 102),
                "{path}?{query}"
            );
        }
        for (query, bad) in [
            ("limit=0", vec!["limit"]),
            ("limit=101", vec!["limit"]),
            ("limit=+1&offset=-1", vec!["limit", "offset"]),
            ("offset=10001", vec!["offset"]),
            (
                "limit=1e1&offset=9223372036854775808",
                vec!["limit", "offset"],
            ),
            ("cursor=z", vec!["cursor"]),
            ("cursor=", vec!["cursor"]),
            (
                "status=ok&event_type=workflow&page=1",
                vec!["event_type", "status", "page"],
            ),
            (
                "status=&event_type=&status=failed",
                vec!["status", "event_type", "status"],
            ),
            ("since=yesterday", vec!["since"]),
        ] {
            let refused = client.get(&format!("{path}?{query}")).await?.problem(422)?;
            ensure!(refused.bad_fields() == bad, "{query}: {}", refused.json);
        }
    }
    Ok(())
}

pub(super) async fn the_log_of_a_deleted_subscription_stays_under_all(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let receiver = Receiver::healthy()?;
    let kept = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let deleted = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    tenant.publish_one("workflow.started").await?;
    client.wait_for_log(kept, 1).await?;
    client.wait_for_log(deleted, 1).await?;
    let before = client.get("/webhooks/logs/all").await?.expect(200)?;

    let path = format!("/webhooks/{deleted}");
    client.delete(&path).await?.expect(204)?;
    client.get(&format!("{path}/logs")).await?.problem(404)?;
    let after = client.get("/webhooks/logs/all").await?.expect(200)?;
    ensure!(
        after.json == before.json && after.json["total"] == 2,
        "{:#}",
        after.json
    );
    let by_type = client
        .get("/webhooks/logs/all?event_type=workflow.started&status=success")
        .await?;
    ensure!(by_type.json["logs"] == before.json["logs"] && by_type.json["total"] == 2);
    Ok(())
}

/// Eleven entries of two subscriptions: three types, both statuses, three triggers.
async fn eleven_entries(tenant: &Tenant<'_>) -> anyhow::Result<[i64; 2]> {
    let receiver = Receiver::with(|request, _| {
        let first_try = request
            .header("x-webhook-attempt")
            .is_ok_and(|attempt| attempt == "1");
        let failed = request
            .header("x-webhook-event")
            .is_ok_and(|name| name == "workflow.failed");
        Reply::status(if first_try && failed { 500 } else { 200 })
    })?;
    let both = tenant
        .subscribe(&receiver, &["workflow.failed", "workflow.started"])
        .await?;
    let started = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let types = [
        "workflow.failed",
        "workflow.started",
        "workflow.started",
        "workflow.failed",
        "workflow.started",
    ];
    tenant
        .publish(&types.map(|name| tenant.event(name)))
        .await?;
    tenant
        .client
        .post(&format!("/webhooks/{started}/test"), &json!({}))
        .await?
        .expect(202)?;
    tenant.client.wait_for_log(both, 7).await?;
    tenant.client.wait_for_log(started, 4).await?;
    Ok([both, started])
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Offset,
    Cursor,
}

/// All entries, page after page; every page must say `total`.
async fn paged(
    client: &ApiClient,
    start: &str,
    turn: Turn,
    total: usize,
) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut path) = (Vec::new(), start.to_owned());
    loop {
        let page = client.get(&path).await?.expect(200)?;
        ensure!(
            page.json["total"] == total,
            "{path}: {} of {total}",
            page.json["total"]
        );
        all.extend(entries(&page)?);
        let Some(cursor) = page.json["next_cursor"].as_str() else {
            return Ok(all);
        };
        path = match turn {
            Turn::Offset => format!("{start}&offset={}", all.len()),
            Turn::Cursor => format!("{start}&cursor={cursor}"),
        };
    }
}

fn entries(page: &ApiResponse) -> anyhow::Result<Vec<Value>> {
    page.json["logs"]
        .as_array()
        .cloned()
        .context("a page without logs")
}

fn moment(entry: &Value) -> Option<Timestamp> {
    Timestamp::parse(entry["created_at"].as_str()?).ok()
}
