//! Exactly one dispatcher acts for a subscription, whatever the number of dispatchers. Receivers count requests while
//! dispatchers join and leave under load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{ReceivedRequest, Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use serde_json::Value;

use super::settled;

/// Each subscription has one request at a time: a lane may hold no more than it leaves free, here one of two slots.
const SLOTS: &str = "2";

/// As many as partitions, so that each dispatcher acts for some.
const SUBSCRIPTIONS: usize = 4;

/// The time of a request: longer than the pause before a hand-over and the successor's next beat together, and not slow.
const HELD: Duration = Duration::from_millis(900);

/// Events for each live subscription, more than a request at a time gets through.
const OWED: usize = 100;

/// The setting `dispatcher.breaker_failures`.
const FAILURES: usize = 2;

/// Requests to each dead endpoint while owners stay: the failures, and the probes after 1 s and 2 s.
const REQUESTS: usize = FAILURES + 2;

const LIVE: &str = "workflow.started";

/// A dispatcher that gets no processor for seconds loses its partitions as one that froze. Then the moves were not planned, and
/// nothing is counted.
const ROUNDS: usize = 3;

pub(super) async fn concurrency_and_rate_limits_of_a_subscription_apply_across_dispatchers(
    mode: Mode,
) -> anyhow::Result<()> {
    let failures = FAILURES.to_string();
    let settings = [
        ("HOOKLINE__DISPATCHER__SLOTS", SLOTS),
        ("HOOKLINE__DISPATCHER__BREAKER_FAILURES", &failures),
        ("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", "30"),
        // Each request of a dead endpoint is the first of its delivery.
        ("HOOKLINE__RETRY__SCHEDULE_SECONDS", "[600]"),
    ];
    for round in 1..=ROUNDS {
        let deployment = Deployment::prepare(mode, &settings).await?;
        let counted = count_through_moves(&deployment).await;
        let deaths = "SELECT sum(deaths) FROM partitions";
        let deaths: u32 = deployment.dependencies()?.sql(deaths).await?.parse()?;
        deployment.end().await?;
        if deaths == 0 || counted.is_ok() {
            return counted;
        }
        println!("round {round}: {deaths} partitions were taken from owners that were silent");
    }
    anyhow::bail!("in each of {ROUNDS} rounds partitions were taken from owners that were silent")
}

async fn count_through_moves(deployment: &Deployment) -> anyhow::Result<()> {
    let partitions = SUBSCRIPTIONS.to_string();
    deployment
        .hookline(&["partitions", "set", &partitions])
        .await?;
    for service in [Service::Dispatcher, Service::Api, Service::Ingest] {
        deployment.start_service(service, &[]).await?;
    }
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    let live = subscribe(&tenant, LIVE, Reply::status(200).after(HELD)).await?;
    let events = tenant.events(LIVE, OWED);
    tenant.publish(&events).await?;

    let mut dead = Vec::new();
    for (dispatchers, starting, event_type) in [
        (1, 0, "workflow.completed"),
        (4, 3, "workflow.failed"),
        (2, 0, "workflow.step.started"),
    ] {
        for _ in 0..starting {
            deployment.start_service(Service::Dispatcher, &[]).await?;
        }
        while deployment.processes(Service::Dispatcher).await.len() > dispatchers {
            deployment.stop_oldest(Service::Dispatcher).await?;
        }
        deployment.wait_ready().await?;
        settled(deployment, dispatchers).await?;
        let before = epochs(deployment).await?;
        let endpoints = subscribe(&tenant, event_type, Reply::status(503)).await?;
        let events = tenant.events(event_type, 20);
        tenant.publish(&events).await?;
        for endpoint in &endpoints {
            endpoint.receiver.wait_for(REQUESTS).await?;
        }
        let requests = endpoints.iter().map(|one| one.receiver.received());
        let requests: Vec<Vec<ReceivedRequest>> = requests.collect();
        let at = Instant::now();
        let after = epochs(deployment).await?;
        for (endpoint, received) in endpoints.iter().zip(requests) {
            // An owner that was late claims its partition anew, and one request finds out again.
            if before[endpoint.partition] != after[endpoint.partition] {
                continue;
            }
            let pauses = probed_at_the_pace_of_one(&received)
                .with_context(|| format!("{dispatchers} dispatchers"))?;
            println!(
                "{dispatchers} dispatchers: pauses before the probes of a dead endpoint {pauses:?}"
            );
        }
        dead.push((endpoints, at, before));
    }
    deployment.stop_oldest(Service::Dispatcher).await?;
    settled(deployment, 1).await?;
    let began = live.iter().map(|one| one.receiver.received().len());
    let began: Vec<usize> = began.collect();
    for (endpoint, began) in live.iter().zip(&began) {
        endpoint.receiver.wait_for(began + 2).await?;
    }

    let last = epochs(deployment).await?;
    for (endpoints, at, epochs) in dead {
        for Endpoint {
            receiver,
            partition,
        } in endpoints
        {
            let received = receiver.received();
            let requests = received.len();
            let moves = last[partition] - epochs[partition];
            let most = REQUESTS + probes_within(at.elapsed()) + usize::try_from(moves)?;
            println!("a dead endpoint: {requests} requests of {most} at most, {moves} moves");
            ensure!(
                requests <= most,
                "{requests} requests, {moves} moves, pauses {:?}",
                pauses(&received)
            );
        }
    }
    for Endpoint { receiver, .. } in live {
        let received = receiver.received();
        let shortest = pauses(&received).into_iter().min();
        let shortest = shortest.context("two requests")?;
        println!(
            "{} requests, one at a time: {shortest:?} apart at least",
            received.len()
        );
        ensure!(shortest >= HELD, "two requests at once, {shortest:?} apart");
        super::none_repeated(&received)?;
    }
    Ok(())
}

struct Endpoint {
    receiver: Receiver,
    partition: usize,
}

/// Subscriptions in different partitions, each with a host of its own.
async fn subscribe(
    tenant: &Tenant<'_>,
    event_type: &str,
    reply: Reply,
) -> anyhow::Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for _ in 0..SUBSCRIPTIONS {
        let reply = reply.clone();
        let receiver = Receiver::with(move |_, _| reply.clone())?;
        let id = tenant.subscribe(&receiver, &[event_type]).await?;
        endpoints.push(Endpoint {
            receiver,
            partition: usize::try_from(id)? % SUBSCRIPTIONS,
        });
    }
    Ok(endpoints)
}

/// How often each partition has changed its owner.
async fn epochs(deployment: &Deployment) -> anyhow::Result<Vec<i64>> {
    let shown = deployment.hookline(&["partitions", "--json"]).await?;
    let shown: Value = serde_json::from_str(&shown)?;
    let partitions = shown["partitions"].as_array().context("partitions")?;
    let epochs = partitions.iter().map(|one| one["epoch"].as_i64());
    let epochs: Option<Vec<i64>> = epochs.collect();
    epochs.context("epochs")
}

/// The times from each request to the next.
fn pauses(received: &[ReceivedRequest]) -> Vec<Duration> {
    let mut at: Vec<Instant> = received.iter().map(|one| one.at).collect();
    at.sort_unstable();
    at.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// After the failures that opened the circuit breaker, each pause is at least twice as long as the one before. Answers with
/// these pauses.
fn probed_at_the_pace_of_one(received: &[ReceivedRequest]) -> anyhow::Result<Vec<Duration>> {
    let pauses = pauses(received).split_off(FAILURES - 1);
    let mut wait = Duration::from_secs(1);
    for pause in &pauses {
        ensure!(*pause >= wait, "{pause:?} instead of {wait:?}: {pauses:?}");
        wait *= 2;
    }
    Ok(pauses)
}

/// How many probes fit into this time. The next one may come at once; the pauses double from 4 s on.
fn probes_within(time: Duration) -> usize {
    let (mut probes, mut at, mut wait) = (1, 4, 4);
    while Duration::from_secs(at) <= time {
        probes += 1;
        at += wait;
        wait *= 2;
    }
    probes
}
