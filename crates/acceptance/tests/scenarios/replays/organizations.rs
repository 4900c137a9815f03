//! Replays of a whole organization, and the list of replays.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::Receiver;
use serde_json::json;

use super::{ended, missed, switch, times};

pub(super) async fn the_missed_events_of_an_organization_are_replayed(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let client = &tenant.client;
    let receiver = Receiver::healthy()?;
    let first = missed(&tenant, &receiver, 2).await?;
    // The first one gets this one's event.
    let second = missed(&tenant, &receiver, 1).await?;
    let foreign = missed(&other, &Receiver::healthy()?, 1).await?;
    client.wait_for_log(first, 1).await?;
    let counted = |body| async move { anyhow::Ok(client.post("/replays", &body).await?) };
    for (body, expected) in [
        (json!({"dry_run": true}), 3),
        (json!({"dry_run": true, "subscription_id": first}), 2),
        (json!({"dry_run": true, "status": "pending"}), 0),
        (
            json!({"dry_run": true, "event_types": ["workflow.started"]}),
            0,
        ),
    ] {
        let answer = counted(body.clone()).await?.expect(200)?.json;
        ensure!(answer == json!({"count": expected}), "{body}: {answer}");
    }
    let hidden = json!({"subscription_id": foreign, "dry_run": true});
    counted(hidden).await?.problem(404)?;
    let bad = json!({"subscription_id": 0, "limit": 1});
    let mut fields = counted(bad).await?.problem(422)?.bad_fields();
    fields.sort();
    ensure!(fields == ["limit", "subscription_id"], "{fields:?}");

    let started = client.post("/replays", &json!({})).await?.expect(202)?.json;
    ensure!(started["count"] == 3, "{started}");
    let id = started["replay_id"].as_str().context("an id")?;
    let path = format!("/replays/{id}");
    let shown = ended(client, &path).await?;
    ensure!(
        shown["subscription_id"].is_null() && shown["replayed"] == 3,
        "{shown}"
    );
    other.client.get(&path).await?.problem(404)?;
    client.wait_for_log(first, 3).await?;
    client.wait_for_log(second, 1).await?;
    let sent = times(&receiver)?;
    ensure!(sent.len() == 4 && sent.values().all(|times| *times == 1));

    // An inactive subscription is left out of a replay of all.
    switch(client, second, false).await?;
    let delivered = json!({"dry_run": true, "status": "delivered"});
    let answer = counted(delivered).await?.expect(200)?.json;
    ensure!(answer == json!({"count": 3}), "{answer}");

    let again = json!({"subscription_id": first});
    let newer = client.post("/replays", &again).await?.expect(202)?.json;
    let page = client.get("/replays").await?.expect(200)?.json;
    ensure!(page["total"] == 2, "{page}");
    ensure!(page["replays"][0]["id"] == newer["replay_id"], "{page}");
    ensure!(page["replays"][1]["id"] == id, "{page}");
    let page = client.get("/replays?limit=1").await?.expect(200)?.json;
    let cursor = page["next_cursor"].as_str().context("a cursor")?;
    let rest = format!("/replays?limit=1&cursor={cursor}");
    let rest = client.get(&rest).await?.expect(200)?.json;
    ensure!(rest["replays"][0]["id"] == id && rest["next_cursor"].is_null());
    let of_first = format!("/replays?subscription_id={first}");
    let page = client.get(&of_first).await?.expect(200)?.json;
    ensure!(page["replays"][0]["id"] == newer["replay_id"] && page["total"] == 1);
    let none = other.client.get(&of_first).await?.expect(200)?.json;
    ensure!(none["replays"] == json!([]), "{none}");
    other.client.delete(&path).await?.problem(404)?;
    client.delete(&path).await?.expect(204)?;
    Ok(())
}
