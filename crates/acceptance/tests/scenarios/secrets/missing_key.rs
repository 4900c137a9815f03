use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Deployment, MASTER_KEY, Mode, Service};
use hookline_testkit::raw_receiver::{RawReceiver, read_request};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::{PATIENCE, until};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

const KEYS: &str = "HOOKLINE__SECRETS__KEYS";

const NEW: &str = "k2:YW5kIGFub3RoZXIgb25lIGZvciB0aGUgdGVzdCBoaSE=";

/// The number of subscriptions with a missing key.
const SUBSCRIPTIONS: usize = 10;

/// Deliveries that they are owed. A debug build delivers some hundreds each second, so this is less than the 100,000 that are
/// tried by hand: `HOOKLINE_TEST_OWED=100000`.
const OWED: usize = 4_000;

/// Events for another subscription before and while these wait.
const PROBES: usize = 20;

/// An answer that is counted.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A dispatcher that runs does not have a key that was added later: `Store::unlock` refuses only a start.
pub(super) async fn deliveries_without_their_master_key_wait_and_delay_no_other(
    mode: Mode,
) -> anyhow::Result<()> {
    let owed = match std::env::var("HOOKLINE_TEST_OWED") {
        Ok(number) => number.parse()?,
        Err(_) => OWED,
    };
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let other = Receiver::healthy()?;
    tenant.subscribe(&other, &["workflow.completed"]).await?;
    let both = format!("{NEW},{MASTER_KEY}");
    let both = [(KEYS, both.as_str())];
    deployment.restart(Service::Api, &both).await?;
    let counting = Counting::start().await?;
    for _ in 0..SUBSCRIPTIONS {
        let body = json!({
            "name": "without a key", "url": counting.receiver.url(), "events": ["workflow.failed"],
            "secret": "hush",
        });
        tenant.client.subscribe(&body).await?;
    }
    let before = Load::of_others(&tenant, &other).await?;

    let began = Instant::now();
    let statements = statements(&deployment).await?;
    for _ in 0..owed / SUBSCRIPTIONS {
        tenant.publish_one("workflow.failed").await?;
    }
    let marked = "SELECT count(*) FROM deliveries WHERE due IS NOT NULL AND backlog IS NOT NULL";
    // One of each waits in memory, where the next hold finds it.
    let nearly = owed - SUBSCRIPTIONS;
    patiently(&deployment, marked, nearly, "deliveries that are marked").await?;
    let elapsed = began.elapsed();
    let statements = self::statements(&deployment).await? - statements;
    let during = Load::of_others(&tenant, &other).await?;
    println!(
        "without a key: {owed} deliveries marked within {elapsed:?} by {statements} statements; others before: {before:?}, \
         during: {during:?}"
    );
    // Ten a second are gathered at most where little comes, and each kind of query takes turns with the others.
    let most = owed / 64 + 40 * usize::try_from(elapsed.as_secs() + 1)?;
    ensure!(statements < most, "{statements} statements, {most} at most");
    ensure!(
        during.median < 5 * before.median + Duration::from_millis(500),
        "others took {:?} instead of {:?}",
        during.median,
        before.median
    );
    // The server counts transactions some seconds late, so those that marked the rows may come first.
    let most = 2.0 * before.transactions + 20.0;
    let wanted = format!("less than {most} transactions a second beside a backlog at rest");
    until(&wanted, async || {
        let during = Load::of_others(&tenant, &other).await?;
        Ok((during.transactions < most).then_some(()))
    })
    .await?;
    ensure!(counting.deliveries() == 0, "a request without a secret");

    deployment.restart(Service::Dispatcher, &both).await?;
    let ready = Instant::now();
    let delivered = "SELECT count(*) FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id \
                     WHERE d.state = 'delivered' AND s.name = 'without a key'";
    patiently(&deployment, delivered, owed, "deliveries").await?;
    println!("with the key: all delivered after {:?}", ready.elapsed());
    let received = counting.deliveries();
    ensure!(received == owed, "{received} of {owed} came");
    deployment.end().await
}

/// A receiver that takes many deliveries and counts them.
struct Counting {
    receiver: RawReceiver,
    seen: Arc<Mutex<HashSet<String>>>,
}

impl Counting {
    async fn start() -> anyhow::Result<Self> {
        let seen: Arc<Mutex<HashSet<String>>> = Arc::default();
        let counted = Arc::clone(&seen);
        let receiver = RawReceiver::with(move |mut connection| {
            let counted = Arc::clone(&counted);
            async move {
                loop {
                    let request = read_request(&mut connection).await?;
                    let request = String::from_utf8_lossy(&request);
                    let mut lines = request.lines();
                    let id = lines.find_map(|line| line.strip_prefix("webhook-id: "));
                    let id = id.context("webhook-id")?.to_owned();
                    counted
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(id);
                    connection.write_all(OK).await?;
                }
            }
        })
        .await?;
        Ok(Self { receiver, seen })
    }

    fn deliveries(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.len()
    }
}

/// The latency of another subscription's events, and the database's work meanwhile.
#[derive(Debug)]
struct Load {
    median: Duration,
    /// Each second.
    transactions: f64,
}

impl Load {
    async fn of_others(tenant: &Tenant<'_>, other: &Receiver) -> anyhow::Result<Self> {
        const EVERY: Duration = Duration::from_millis(150);
        let dependencies = tenant.deployment.dependencies()?;
        let committed =
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        let first: f64 = dependencies.sql(committed).await?.parse()?;
        let began = Instant::now();
        let mut ticks = tokio::time::interval(EVERY);
        let mut waits = Vec::new();
        for _ in 0..PROBES {
            ticks.tick().await;
            let at = Instant::now();
            let before = other.received().len();
            tenant.publish_one("workflow.completed").await?;
            let received = other.wait_for(before + 1).await?;
            let received_at = received.last().context("it came")?.at;
            waits.push(received_at.saturating_duration_since(at));
        }
        let last: f64 = dependencies.sql(committed).await?.parse()?;
        waits.sort_unstable();
        Ok(Self {
            median: waits[PROBES / 2],
            transactions: (last - first) / began.elapsed().as_secs_f64(),
        })
    }
}

/// The statements about backlog that the dispatcher has sent.
async fn statements(deployment: &Deployment) -> anyhow::Result<usize> {
    let metrics = format!("{}/metrics", deployment.admin(Service::Dispatcher).await?);
    let metrics = hookline_testkit::http::get(metrics).await?.text().await?;
    let lines = metrics.lines();
    let mut counts = lines.filter(|line| line.starts_with("hookline_backlog_statements_total"));
    match counts.next().and_then(|line| line.rsplit_once(' ')) {
        Some((_, count)) => Ok(count.parse()?),
        None => Ok(0),
    }
}

/// Waits until this SQL counts so many, as long as the count grows.
async fn patiently(
    deployment: &Deployment,
    sql: &str,
    count: usize,
    what: &str,
) -> anyhow::Result<()> {
    let mut last = 0;
    loop {
        let wanted = format!("{count} {what}, with {last} by now");
        let grown = until(&wanted, async || {
            let now: usize = deployment.dependencies()?.sql(sql).await?.parse()?;
            Ok((now >= count || now > last).then_some(now))
        });
        last = grown
            .await
            .with_context(|| format!("none came for {PATIENCE:?}"))?;
        if last >= count {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
