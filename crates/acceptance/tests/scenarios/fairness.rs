//! A receiver that hangs costs its own subscription only.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::sentences;
use hookline_acceptance::soak::{Bad, Cast, Rule, Trial};
use hookline_acceptance::suite::Alone;
use hookline_testkit::deployment::{Home, Kind};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use serde_json::{Value, json};

pub(crate) fn alone() -> Vec<Alone> {
    sentences![
        a_receiver_that_hangs_holds_up_nobody_else_and_gets_all_of_its_own_later,
        three_bad_endpoints_of_ten_cost_the_others_nothing_and_get_all_of_theirs_later,
        fifty_hanging_subscriptions_behind_one_host_cost_the_others_nothing,
        a_test_is_sent_to_a_receiver_that_is_left_alone,
    ]
}

const SLOTS: usize = 16;

/// How long a request may take in a test's home.
const DEADLINE: Duration = Duration::from_secs(3);

/// This many deliveries wait for the receiver that hangs.
const OWED: usize = 5 * SLOTS;

async fn a_receiver_that_hangs_holds_up_nobody_else_and_gets_all_of_its_own_later(
    kind: Kind,
) -> anyhow::Result<()> {
    let settings = [
        ("HOOKLINE__DISPATCHER__SLOTS", SLOTS.to_string()),
        (
            "HOOKLINE__RETRY__SCHEDULE_SECONDS",
            "[1,1,1,1,1,1,1,1,1,1]".to_owned(),
        ),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, &**value));
    let home = Home::start_with(kind, &settings).await?;
    let tenant = home.tenant().await?;
    let hangs = Arc::new(AtomicBool::new(true));
    let hanging = Receiver::that({
        let hangs = Arc::clone(&hangs);
        move |_, _| match hangs.load(Ordering::Relaxed) {
            true => Reply::status(200).after(Duration::from_secs(10)),
            false => Reply::status(200),
        }
    })?;
    let healthy = Receiver::healthy()?;
    let subscription = tenant.subscribe(&hanging, &["workflow.failed"]).await?;
    tenant.subscribe(&healthy, &["workflow.completed"]).await?;
    let events: Vec<Value> = (0..OWED).map(|_| tenant.event("workflow.failed")).collect();
    tenant.publish(&events).await?;
    hanging.wait_for(SLOTS / 2).await?;

    // Longer than a request may take: requests that have timed out are followed by others.
    let begun = Instant::now();
    let (mut published, mut longest) = (0, Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(4) {
        let at = Instant::now();
        tenant.publish_one("workflow.completed").await?;
        published += 1;
        let received = healthy.wait_for(published).await?;
        let last = received.last().context("nothing came")?;
        longest = longest.max(last.at.saturating_duration_since(at));
    }
    // An event that waits for a slot behind the hanging requests waits for their deadline.
    ensure!(
        longest < DEADLINE,
        "one of {published} events took {longest:?}"
    );
    ensure!(published > 10, "only {published} events in 4 s");
    let requests = hanging.received().len();
    ensure!(requests < OWED, "all {requests} requests began");

    hangs.store(false, Ordering::Relaxed);
    let path = format!("/webhooks/{subscription}/logs?limit=1&status=success");
    until("every delivery in the log", async || {
        let page = tenant.client.get(&path).await?.expect(200)?;
        Ok((page.json["total"] == OWED).then_some(()))
    })
    .await?;
    let ids: HashSet<_> = hanging
        .received()
        .iter()
        .filter_map(|request| request.header("webhook-id").ok().map(str::to_owned))
        .collect();
    ensure!(ids.len() == OWED, "{} deliveries", ids.len());

    // To wait in the backlog used up no attempt.
    let mut attempts: HashMap<String, Vec<u64>> = HashMap::new();
    for request in hanging.received() {
        let id = request.header("webhook-id")?.to_owned();
        let attempt = request.header("x-webhook-attempt")?.parse()?;
        attempts.entry(id).or_default().push(attempt);
    }
    for (id, numbers) in attempts {
        let expected: Vec<u64> = (1..).take(numbers.len()).collect();
        ensure!(numbers == expected, "{id}: {numbers:?}");
    }
    let said = home.said().await;
    ensure!(
        said.contains("marked deliveries as backlog"),
        "nothing was marked"
    );
    home.end().await
}

/// The short form of `make soak`; the bad ones want more than four times the slots in it, too.
async fn soaked(kind: Kind, bad: Bad) -> anyhow::Result<()> {
    let trial = Trial {
        cast: Cast {
            kind,
            dispatchers: 1,
            slots: SLOTS,
            deadline: Duration::from_secs(6),
        },
        bad,
        rate: 50,
        duration: Duration::from_secs(10),
        rule: Rule::Rough,
        patience: Duration::from_secs(60),
    };
    let verdict = trial.run().await?;
    let (without, with) = (verdict.without, verdict.with);
    ensure!(verdict.passed, "without them {without}; with them {with}");
    Ok(())
}

async fn three_bad_endpoints_of_ten_cost_the_others_nothing_and_get_all_of_theirs_later(
    kind: Kind,
) -> anyhow::Result<()> {
    soaked(kind, Bad::ThreeOfTen).await
}

async fn fifty_hanging_subscriptions_behind_one_host_cost_the_others_nothing(
    kind: Kind,
) -> anyhow::Result<()> {
    soaked(kind, Bad::FiftyBehindOneHost).await
}

async fn a_test_is_sent_to_a_receiver_that_is_left_alone(kind: Kind) -> anyhow::Result<()> {
    // One failure opens the breaker, and its answer asks for a minute.
    let settings = [("HOOKLINE__DISPATCHER__BREAKER_FAILURES", "1")];
    let home = Home::start_with(kind, &settings).await?;
    let tenant = home.tenant().await?;
    let busy = Reply::status(503).with("retry-after", "60");
    let receiver = Receiver::that(move |request, _| match request.header("x-webhook-event") {
        Ok("workflow.failed") => busy.clone(),
        _ => Reply::status(200),
    })?;
    let types = ["workflow.failed", "workflow.started"];
    let subscription = tenant.subscribe(&receiver, &types).await?;
    tenant.publish_one("workflow.failed").await?;
    tenant.client.wait_for_log(subscription, 1).await?;
    tenant.publish_one("workflow.started").await?;
    let path = format!("/webhooks/{subscription}/deliveries?event_type=workflow.started");
    until("a delivery that waits for the breaker", async || {
        let page = tenant.client.get(&path).await?.expect(200)?.json;
        Ok((page["deliveries"][0]["waiting_for"] == "breaker").then_some(()))
    })
    .await?;
    ensure!(receiver.received().len() == 1, "it was called");

    let path = format!("/webhooks/{subscription}/test");
    tenant.client.post(&path, &json!({})).await?.expect(202)?;
    let log = tenant.client.wait_for_log(subscription, 2).await?;
    ensure!(
        log[1]["trigger"] == "test" && log[1]["status"] == "success",
        "{log:?}"
    );
    home.end().await
}
