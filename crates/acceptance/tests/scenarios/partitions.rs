//! Partitions: dispatchers share them, stand by, come and go, and their number changes, while everything is delivered once.

mod one_owner;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{ReceivedRequest, Receiver, Reply};
use hookline_testkit::tenant::{EVENT_TYPES, Tenant};
use hookline_testkit::waiting::until;
use serde_json::Value;

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        one_to_three_dispatchers_share_the_partitions_evenly,
        a_surplus_dispatcher_stands_by_and_takes_over,
        a_change_of_the_number_of_partitions_under_load_loses_and_repeats_nothing,
        one_owner::concurrency_and_rate_limits_of_a_subscription_apply_across_dispatchers,
    ]
}

pub(crate) fn exclusive_distributed() -> Vec<IsolatedScenario> {
    scenarios![a_rolling_restart_of_dispatchers_delays_no_event]
}

pub(crate) fn standalone() -> Vec<IsolatedScenario> {
    scenarios![a_standalone_deployment_has_one_partition]
}

/// Every change of the dispatchers is settled within this time: 25 s, as the model in `dispatcher/src/ownership` shows, and
/// some more for a machine that has much to do.
const SETTLES: Duration = Duration::from_secs(40);

/// The output of `hookline partitions`: how many partitions each owner has, and the states of the dispatchers.
#[derive(Debug)]
struct Shown {
    owned: Vec<usize>,
    without_owner: usize,
    states: Vec<String>,
}

impl Shown {
    async fn of(deployment: &Deployment) -> anyhow::Result<Self> {
        let shown = deployment.hookline(&["partitions", "--json"]).await?;
        let shown: Value = serde_json::from_str(&shown)?;
        let mut owned: BTreeMap<&str, usize> = BTreeMap::new();
        let mut without_owner = 0;
        for partition in shown["partitions"].as_array().context("partitions")? {
            match partition["owner"].as_str() {
                Some(owner) => *owned.entry(owner).or_default() += 1,
                None => without_owner += 1,
            }
        }
        let dispatchers = shown["dispatchers"].as_array().context("dispatchers")?;
        let states = dispatchers.iter().map(|one| one["state"].as_str());
        let states: Option<Vec<String>> = states.map(|one| one.map(str::to_owned)).collect();
        Ok(Self {
            owned: owned.into_values().collect(),
            without_owner,
            states: states.context("a state")?,
        })
    }

    fn is_even(&self, dispatchers: usize) -> bool {
        let (most, fewest) = (self.owned.iter().max(), self.owned.iter().min());
        let differ = most.zip(fewest).map(|(most, fewest)| most - fewest);
        self.without_owner == 0
            && self.owned.len() == dispatchers
            && differ.is_some_and(|by| by <= 1)
    }

    fn are(&self, state: &str) -> usize {
        self.states.iter().filter(|one| *one == state).count()
    }
}

/// Waits until so many dispatchers share all partitions evenly.
async fn settled(deployment: &Deployment, dispatchers: usize) -> anyhow::Result<Duration> {
    let began = Instant::now();
    until(&format!("{dispatchers} even shares"), async || {
        let shown = Shown::of(deployment).await?;
        Ok(shown.is_even(dispatchers).then_some(()))
    })
    .await?;
    Ok(began.elapsed())
}

async fn one_to_three_dispatchers_share_the_partitions_evenly(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    for (dispatchers, start) in [(1, 1), (3, 2)] {
        for _ in 0..start {
            deployment.start_service(Service::Dispatcher, &[]).await?;
        }
        deployment.wait_ready().await?;
        let elapsed = settled(&deployment, dispatchers).await?;
        println!("{dispatchers} dispatchers: even shares {elapsed:?} after they were ready");
        ensure!(elapsed < SETTLES, "{elapsed:?}");
    }
    deployment
        .signal_oldest(Service::Dispatcher, "KILL")
        .await?;
    let elapsed = settled(&deployment, 2).await?;
    println!("one of them was killed: even shares {elapsed:?} later");
    ensure!(elapsed < SETTLES, "{elapsed:?}");
    let shown = Shown::of(&deployment).await?;
    ensure!(
        shown.are("owns") == 2 && shown.are("silent") == 1,
        "{shown:?}"
    );
    deployment.end().await
}

async fn a_surplus_dispatcher_stands_by_and_takes_over(mode: Mode) -> anyhow::Result<()> {
    const STEPS_IN: Duration = Duration::from_secs(10);
    let deployment = Deployment::prepare(mode, &[]).await?;
    deployment.hookline(&["partitions", "set", "1"]).await?;
    for service in [Service::Api, Service::Ingest, Service::Dispatcher] {
        deployment.start_service(service, &[]).await?;
    }
    deployment.wait_ready().await?;
    settled(&deployment, 1).await?;
    deployment.hookline(&["partitions", "set", "2"]).await?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;
    until("two owners and one that stands by", async || {
        let shown = Shown::of(&deployment).await?;
        let stands_by = shown.are("owns") == 2 && shown.are("stands by") == 1;
        Ok((shown.is_even(2) && stands_by).then_some(()))
    })
    .await?;
    until("a log line of the one that stands by", async || {
        Ok(deployment
            .output()
            .await
            .contains("stands by: ")
            .then_some(()))
    })
    .await?;
    for (_, admin) in deployment.processes(Service::Dispatcher).await {
        let readyz = hookline_testkit::http::get(format!("{admin}/readyz")).await?;
        ensure!(readyz.status() == 200, "{}", readyz.text().await?);
    }
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    for event_type in &EVENT_TYPES[..2] {
        tenant.subscribe(&receiver, &[event_type]).await?;
    }

    deployment
        .signal_oldest(Service::Dispatcher, "KILL")
        .await?;
    let killed = Instant::now();
    for event_type in &EVENT_TYPES[..2] {
        tenant.publish_one(event_type).await?;
    }
    receiver.wait_for(2).await?;
    let elapsed = killed.elapsed();
    println!("an owner was killed: both partitions deliver after {elapsed:?}");
    ensure!(elapsed < STEPS_IN, "{elapsed:?}");
    until("none to stand by", async || {
        let shown = Shown::of(&deployment).await?;
        Ok((shown.is_even(2) && shown.are("stands by") == 0).then_some(()))
    })
    .await?;
    deployment.end().await
}

async fn a_change_of_the_number_of_partitions_under_load_loses_and_repeats_nothing(
    mode: Mode,
) -> anyhow::Result<()> {
    let settings = [
        ("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", "2"),
        ("HOOKLINE__RETRY__SCHEDULE_SECONDS", "[4,4,4]"),
    ];
    let deployment = Deployment::start_with(mode, &settings).await?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    // Requests are in flight longer than a look waits for a wake-up.
    let slow = Receiver::with(|_, _| Reply::status(200).after(Duration::from_millis(1_200)))?;
    let quick = Receiver::healthy()?;
    let refuses_once = Receiver::answering([503, 200].map(Reply::status).to_vec())?;
    for event_type in EVENT_TYPES {
        for receiver in [&slow, &quick, &refuses_once] {
            tenant.subscribe(receiver, &[event_type]).await?;
        }
    }

    let over = AtomicBool::new(false);
    let changing = async {
        let mut printed = Vec::new();
        quick.wait_for(50).await?;
        for count in ["5", "23"] {
            let before = quick.received().len();
            let set = deployment.hookline(&["partitions", "set", count]).await?;
            printed.push(set.trim().to_owned());
            let beyond = deployment
                .dependencies()?
                .sql(&format!(
                    "SELECT count(*) FROM deliveries WHERE due IS NOT NULL AND partition >= {count}"
                ))
                .await?;
            ensure!(beyond == "0", "{beyond} in no partition");
            // Every dispatcher knows the number, and new events are delivered by it.
            quick.wait_for(before + 50).await?;
        }
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(printed)
    };
    let (published, printed) = tokio::try_join!(publish_until(&tenant, &over), changing)?;
    println!("{published} events, {printed:?}");
    let shares = settled(&deployment, 2).await?;
    println!("even shares of 23 partitions {shares:?} later");
    until("every delivery to end", async || {
        let pending = "SELECT count(*) FROM deliveries WHERE due IS NOT NULL";
        Ok((deployment.dependencies()?.sql(pending).await? == "0").then_some(()))
    })
    .await?;
    // The retries of the number before were due later.
    let moved = "moved deliveries to the partitions of their subscriptions";
    ensure!(
        deployment.output().await.contains(moved),
        "no owner moved any"
    );
    for (name, receiver) in [
        ("slow", &slow),
        ("quick", &quick),
        ("refuses once", &refuses_once),
    ] {
        once_each(&receiver.received(), published).context(name)?;
    }
    deployment.end().await
}

/// Publishes an event 20 times a second, of each type in turn; answers with how many.
async fn publish_until(tenant: &Tenant<'_>, over: &AtomicBool) -> anyhow::Result<usize> {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let mut published = 0;
    for event_type in EVENT_TYPES.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        ticks.tick().await;
        tenant.publish_one(event_type).await?;
        published += 1;
    }
    Ok(published)
}

/// Checks that this many deliveries came, and no attempt of them twice.
fn once_each(received: &[ReceivedRequest], deliveries: usize) -> anyhow::Result<()> {
    let distinct = none_repeated(received)?;
    ensure!(
        distinct == deliveries,
        "{distinct} of {deliveries} deliveries"
    );
    Ok(())
}

/// No attempt came twice. Answers with the number of deliveries.
fn none_repeated(received: &[ReceivedRequest]) -> anyhow::Result<usize> {
    let mut attempts: HashMap<(&str, &str), usize> = HashMap::new();
    for request in received {
        let id = request.header("webhook-id")?;
        *attempts
            .entry((id, request.header("x-webhook-attempt")?))
            .or_default() += 1;
    }
    let ids: HashSet<&str> = attempts.keys().map(|(id, _)| *id).collect();
    let repeated = attempts.values().filter(|count| **count > 1).count();
    ensure!(
        repeated == 0,
        "{repeated} of {} attempts repeated",
        attempts.len()
    );
    Ok(ids.len())
}

async fn a_rolling_restart_of_dispatchers_delays_no_event(mode: Mode) -> anyhow::Result<()> {
    // By hand also with 8, as in the variable.
    const DISPATCHERS: usize = 4;
    // The pause before a hand-over and the successor's next beat are half a second.
    const AT_MOST: Duration = Duration::from_secs(1);
    // A machine that has much to do holds up all events now and then, with and without a restart.
    const ROUNDS: usize = 3;
    let dispatchers = match std::env::var("HOOKLINE_TEST_DISPATCHERS") {
        Ok(number) => number.parse()?,
        Err(_) => DISPATCHERS,
    };
    let deployment = Deployment::start(mode).await?;
    for _ in 1..dispatchers {
        deployment.start_service(Service::Dispatcher, &[]).await?;
    }
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    for event_type in EVENT_TYPES
        .iter()
        .cycle()
        .take(SUBSCRIPTIONS_OF_A_TYPE * EVENT_TYPES.len())
    {
        tenant.subscribe(&receiver, &[event_type]).await?;
    }
    settled(&deployment, dispatchers).await?;
    let other = deployment.tenant().await?;
    let dead = with_an_open_circuit_breaker(&other).await?;
    for round in 1..=ROUNDS {
        let (longest, median) = restart_in_turn(&tenant, &receiver, dispatchers).await?;
        if longest < AT_MOST {
            break;
        }
        ensure!(
            round < ROUNDS,
            "an event waited for {longest:?}, and half of them for less than {median:?}"
        );
    }
    let opened = deployment
        .dependencies()?
        .sql("SELECT * FROM opened")
        .await?;
    ensure!(opened == dead.to_string(), "circuit breakers of {opened}");
    deployment.end().await
}

/// A subscription with an open circuit breaker. From now on the table `opened` lists each time that one opens.
async fn with_an_open_circuit_breaker(tenant: &Tenant<'_>) -> anyhow::Result<i64> {
    let dependencies = tenant.deployment.dependencies()?;
    let openings = "CREATE TABLE opened (subscription_id BIGINT);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO opened VALUES (NEW.subscription_id); RETURN NULL; END $$;
        CREATE TRIGGER opened AFTER INSERT ON circuit_breakers FOR EACH ROW EXECUTE FUNCTION note()";
    dependencies.sql(openings).await?;
    let (receiver, _) = Receiver::refusing()?;
    let subscription = tenant.subscribe(&receiver, &[EVENT_TYPES[0]]).await?;
    let events: Vec<Value> = (0..30).map(|_| tenant.event(EVENT_TYPES[0])).collect();
    tenant.publish(&events).await?;
    until("an open circuit breaker", async || {
        let opened = dependencies.sql("SELECT * FROM opened").await?;
        Ok((opened == subscription.to_string()).then_some(()))
    })
    .await?;
    Ok(subscription)
}

const SUBSCRIPTIONS_OF_A_TYPE: usize = 2;

/// Restarts all dispatchers while 50 events are published each second. Answers with the longest wait of an event and with
/// the median.
async fn restart_in_turn(
    tenant: &Tenant<'_>,
    receiver: &Receiver,
    dispatchers: usize,
) -> anyhow::Result<(Duration, Duration)> {
    const EVERY: Duration = Duration::from_millis(20);
    let deployment = tenant.deployment;
    let before = receiver.received().len();
    let over = AtomicBool::new(false);
    let publishing = async {
        let mut published: HashMap<String, Instant> = HashMap::new();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for event_type in EVENT_TYPES.iter().cycle() {
            if over.load(Ordering::Relaxed) {
                break;
            }
            ticks.tick().await;
            let at = Instant::now();
            published.insert(tenant.publish_one(event_type).await?, at);
        }
        anyhow::Ok(published)
    };
    let restarting = async {
        receiver.wait_for(before + 100).await?;
        for _ in 0..dispatchers {
            deployment.stop_oldest(Service::Dispatcher).await?;
            deployment.start_service(Service::Dispatcher, &[]).await?;
            deployment.wait_ready().await?;
        }
        receiver.wait_for(receiver.received().len() + 100).await?;
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (published, ()) = tokio::try_join!(publishing, restarting)?;
    let deliveries = SUBSCRIPTIONS_OF_A_TYPE * published.len();
    let mut received = receiver.wait_for(before + deliveries).await?;
    received.drain(..before);
    once_each(&received, deliveries)?;
    let mut waits = Vec::new();
    for request in &received {
        let event: Value = serde_json::from_slice(&request.body)?;
        let id = event["event_id"].as_str().context("event_id")?;
        let at = published.get(id).context("an event of an earlier round")?;
        waits.push(request.at.saturating_duration_since(*at));
    }
    waits.sort_unstable();
    let longest = waits.last().copied().unwrap_or_default();
    let median = waits[waits.len() / 2];
    println!(
        "{dispatchers} dispatchers restarted in turn: {} events, p50 {median:?}, p99 {:?}, longest {longest:?}",
        published.len(),
        waits[waits.len() * 99 / 100],
    );
    Ok((longest, median))
}

async fn a_standalone_deployment_has_one_partition(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let refused = deployment.hookline(&["partitions", "set", "2"]).await;
    let why = refused.err().context("the number was changed")?.to_string();
    ensure!(why.contains("a folder has one partition"), "{why}");
    until("the process to own it", async || {
        let shown = Shown::of(&deployment).await?;
        Ok((shown.owned == [1] && shown.states == ["owns"]).then_some(()))
    })
    .await?;
    deployment.end().await
}
