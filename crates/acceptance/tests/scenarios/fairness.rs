//! A receiver that hangs costs its own subscription only.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::soak::{BadReceivers, FairnessRun, FairnessSetup, LatencyBound};
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use serde_json::json;

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        a_hanging_receiver_delays_no_other_and_gets_its_deliveries_later,
        three_bad_endpoints_of_ten_do_not_slow_others_and_get_their_deliveries_later,
        fifty_hanging_subscriptions_of_one_host_do_not_slow_others,
        a_test_delivery_is_sent_despite_an_open_circuit_breaker,
    ]
}

const SLOTS: usize = 16;

/// How long a request may take in a test's deployment.
const DEADLINE: Duration = Duration::from_secs(3);

/// This many deliveries wait for the receiver that hangs.
const OWED: usize = 5 * SLOTS;

async fn a_hanging_receiver_delays_no_other_and_gets_its_deliveries_later(
    mode: Mode,
) -> anyhow::Result<()> {
    let settings = [
        ("HOOKLINE__DISPATCHER__SLOTS", SLOTS.to_string()),
        (
            "HOOKLINE__RETRY__SCHEDULE_SECONDS",
            "[1,1,1,1,1,1,1,1,1,1]".to_owned(),
        ),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, &**value));
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let (hanging, is_well) =
        Receiver::until_well(Reply::status(200).after(Duration::from_secs(10)))?;
    let healthy = Receiver::healthy()?;
    let subscription = tenant.subscribe(&hanging, &["workflow.failed"]).await?;
    tenant.subscribe(&healthy, &["workflow.completed"]).await?;
    let events = tenant.events("workflow.failed", OWED);
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

    is_well.store(true, Ordering::Relaxed);
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
    let output = deployment.output().await;
    ensure!(
        output.contains("marked deliveries as backlog"),
        "nothing was marked"
    );
    deployment.end().await
}

/// The short form of `make soak`; the bad ones want more than four times the slots in it, too.
async fn soaked(mode: Mode, bad: BadReceivers) -> anyhow::Result<()> {
    let run = FairnessRun {
        setup: FairnessSetup {
            mode,
            dispatchers: 1,
            slots: SLOTS,
            deadline: Duration::from_secs(6),
        },
        bad,
        rate: 50,
        duration: Duration::from_secs(10),
        bound: LatencyBound::Rough,
        patience: Duration::from_secs(60),
    };
    let result = run.run().await?;
    let (without, with) = (result.without, result.with);
    ensure!(result.passed, "without them {without}; with them {with}");
    Ok(())
}

async fn three_bad_endpoints_of_ten_do_not_slow_others_and_get_their_deliveries_later(
    mode: Mode,
) -> anyhow::Result<()> {
    soaked(mode, BadReceivers::ThreeOfTen).await
}

async fn fifty_hanging_subscriptions_of_one_host_do_not_slow_others(
    mode: Mode,
) -> anyhow::Result<()> {
    soaked(mode, BadReceivers::FiftyBehindOneHost).await
}

async fn a_test_delivery_is_sent_despite_an_open_circuit_breaker(mode: Mode) -> anyhow::Result<()> {
    // One failure opens the breaker, and its answer asks for a minute.
    let settings = [("HOOKLINE__DISPATCHER__BREAKER_FAILURES", "1")];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let busy = Reply::status(503).with_header("retry-after", "60");
    let receiver = Receiver::with(move |request, _| match request.header("x-webhook-event") {
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
    deployment.end().await
}
