//! After the load: every owed delivery comes within a bounded time, and then the store and the ledger agree.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use super::ledger::{Counts, Ledger};
use super::system::{ChaosOrganization, System};
use hookline_testkit::queue_depth::depth;

/// How long it may take until nothing is owed any more.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks at the store.
const LOOK: Duration = Duration::from_millis(250);

/// How many of the missing deliveries are shown.
const SHOWN: usize = 10;

pub(super) struct Settled {
    /// How long it took.
    pub(super) elapsed: Duration,
    /// How many dead letters there are.
    pub(super) put_aside: u64,
    pub(super) problems: Vec<String>,
}

/// Waits until nothing is owed, in the ledger, in the store and on the broker, and compares.
pub(super) async fn settle(system: &System, ledger: &Ledger) -> anyhow::Result<Settled> {
    let began = Instant::now();
    let mut problems = Vec::new();
    let left = loop {
        let left = left(system, ledger).await;
        if left.as_ref().is_ok_and(Option::is_none) || began.elapsed() > PATIENCE {
            break left?;
        }
        tokio::time::sleep(LOOK).await;
    };
    let elapsed = began.elapsed();
    if let Some(left) = left {
        problems.push(format!("after {} s there {left}", PATIENCE.as_secs()));
    }
    problems.extend(missing_deliveries(system, ledger).await);
    problems.extend(differences(system, ledger).await?);
    let dead = dead_letters(system).await?;
    problems.extend(dead.messages);
    Ok(Settled {
        elapsed,
        put_aside: dead.count,
        problems,
    })
}

struct DeadLetters {
    count: u64,
    messages: Vec<String>,
}

/// Events and deliveries that were dead-lettered: no message of a run is a reason for it.
async fn dead_letters(system: &System) -> anyhow::Result<DeadLetters> {
    let listed = system.hookline(&["dead-letters", "list", "--json"]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let letters = listed["dead_letters"]
        .as_array()
        .context("a list without dead letters")?;
    let messages = letters.iter().take(SHOWN);
    Ok(DeadLetters {
        count: letters.len() as u64 + listed["more"].as_u64().unwrap_or_default(),
        messages: messages
            .map(|letter| format!("dead letter: {letter}"))
            .collect(),
    })
}

/// The work that the run must still wait for.
async fn left(system: &System, ledger: &Ledger) -> anyhow::Result<Option<String>> {
    if !system.lost.is_empty() {
        ledger.mark_lost_by_failover(&system.lost, &system.stored().await?);
    }
    let Counts { lost, .. } = ledger.counts();
    if lost > 0 {
        return Ok(Some(format!("are {lost} deliveries that have not come")));
    }
    if let Some(servers) = &system.servers {
        let urls = servers.amqp()?;
        let events = depth(urls.first().context("no broker")?, "hookline.events").await?;
        if events > 0 {
            return Ok(Some(format!("are {events} events that were not taken in")));
        }
    }
    for tenant in &system.tenants {
        for subscription in subscriptions(tenant).await? {
            let pending = total(tenant, subscription, "pending").await?;
            if pending > 0 {
                let what =
                    format!("are {pending} pending deliveries of subscription {subscription}");
                return Ok(Some(what));
            }
        }
    }
    Ok(None)
}

async fn missing_deliveries(system: &System, ledger: &Ledger) -> Vec<String> {
    let mut messages = Vec::new();
    for ((organization, event), number) in ledger.missing().into_iter().take(SHOWN) {
        let tenant = system
            .tenants
            .iter()
            .find(|tenant| tenant.organization == organization);
        let stored = match tenant {
            Some(tenant) => match tenant.client.get(&format!("/events/{event}")).await {
                Ok(answer) => format!("{} {}", answer.status, answer.json),
                Err(why) => format!("{why:#}"),
            },
            None => "no such organization".to_owned(),
        };
        let subscription = ledger
            .subscriptions()
            .get(number)
            .and_then(|subscription| subscription.created);
        let id = subscription.map_or(0, |(id, _)| id);
        messages.push(format!(
            "lost: {event} of {organization} to subscription {id}; the store says: {stored}"
        ));
    }
    messages
}

/// The differences between the store and the ledger.
async fn differences(system: &System, ledger: &Ledger) -> anyhow::Result<Vec<String>> {
    let mut differences = Vec::new();
    for (number, subscription) in ledger.subscriptions().into_iter().enumerate() {
        let Some((id, _)) = subscription
            .created
            .filter(|_| !subscription.lost_by_failover)
        else {
            continue;
        };
        let tenant = system
            .tenants
            .iter()
            .find(|tenant| tenant.organization == subscription.organization)
            .context("a subscription of nobody")?;
        let (received, counted) = (
            ledger.accepted_by(number),
            total(tenant, id, "delivered").await?,
        );
        if u64::try_from(received)? != counted {
            differences.push(format!(
                "subscription {id}: {received} deliveries came, and the store says {counted}"
            ));
        }
        for status in ["exhausted", "skipped", "cancelled"] {
            let ended = total(tenant, id, status).await?;
            if ended > 0 {
                differences.push(format!(
                    "subscription {id}: {ended} deliveries are {status}"
                ));
            }
        }
    }
    Ok(differences)
}

async fn subscriptions(tenant: &ChaosOrganization) -> anyhow::Result<Vec<i64>> {
    let listed = tenant.client.get("/webhooks").await?.expect(200)?;
    let all = listed.json["webhooks"].as_array().context("a page")?;
    Ok(all.iter().filter_map(|one| one["id"].as_i64()).collect())
}

async fn total(tenant: &ChaosOrganization, subscription: i64, status: &str) -> anyhow::Result<u64> {
    let path = format!("/webhooks/{subscription}/deliveries?status={status}&limit=1");
    let page: Value = tenant.client.get(&path).await?.expect(200)?.json;
    page["total"].as_u64().context("a page without a total")
}
