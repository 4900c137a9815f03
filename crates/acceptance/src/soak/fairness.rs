//! A fairness run: a deployment, a load, and bad receivers beside the good ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::latency::{Latencies, LatencyBound};
use super::load::{FairnessPublisher, Intended, KINDS, PublishRate, TYPES, publish_steadily};
use super::metrics::DispatcherMetrics;
use super::receivers::{ReceiverBehaviour, ReceiverFleet};
use hookline_testkit::dependencies::DependencyRoute;
use hookline_testkit::deployment::{Deployment, Mode, Service};

/// The endpoints that misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadReceivers {
    /// Three of ten endpoints: one hangs, one answers 500 after 10 s, one trickles its body.
    ThreeOfTen,
    /// Fifty subscriptions to one host that hangs.
    FiftyBehindOneHost,
    /// One endpoint hangs, with this many deliveries waiting for it.
    Backlog(u64),
}

/// The deployment and the dispatchers of a run.
#[derive(Debug, Clone, Copy)]
pub struct FairnessSetup {
    /// Which deployment.
    pub mode: Mode,
    /// How many dispatchers.
    pub dispatchers: usize,
    /// Requests in flight at once, of each of them.
    pub slots: usize,
    /// How long a request may take.
    pub deadline: Duration,
}

/// The settings of a run.
#[derive(Debug, Clone, Copy)]
pub struct FairnessRun {
    /// Where.
    pub setup: FairnessSetup,
    /// The endpoints that misbehave beside the healthy ones.
    pub bad: BadReceivers,
    /// Events a second, for ten endpoints together.
    pub rate: u32,
    /// For how long, without the bad ones and with them.
    pub duration: Duration,
    /// The bound that the latencies must keep.
    pub bound: LatencyBound,
    /// How long the last delivery may take once all have recovered.
    pub patience: Duration,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct FairnessResult {
    /// The healthy endpoints alone.
    pub without: Latencies,
    /// The healthy endpoints beside the bad ones.
    pub with: Latencies,
    /// Whether the bad endpoints cost the healthy ones no more than the bound allows. All owed deliveries must have
    /// arrived, and every bound must hold.
    pub passed: bool,
}

/// No more than these many deliveries are marked as backlog in a second by one dispatcher, after the second's
/// events: 50 come back, each twice, for a delay of more than a minute is made of two; and a backlog
/// that reaches beyond the longest delay is laid over itself.
const MOST_MARKED: f64 = 200.0;

/// The memory of one process, in MiB.
const MOST_MEMORY: u64 = 256;

/// This many subscriptions of the bad host share a kind of event.
const FIFTY: usize = 50;

impl BadReceivers {
    /// The receivers behind the first kinds of events; the others are healthy.
    fn behaviours(self) -> &'static [ReceiverBehaviour] {
        match self {
            BadReceivers::ThreeOfTen => &[
                ReceiverBehaviour::Hangs,
                ReceiverBehaviour::FailsLate,
                ReceiverBehaviour::Trickles,
            ],
            BadReceivers::FiftyBehindOneHost | BadReceivers::Backlog(_) => {
                &[ReceiverBehaviour::Hangs]
            }
        }
    }

    /// Fifty subscriptions get each event fifty times: of a tenth of the events, that is five times
    /// what the others get.
    fn first_kind(self) -> u64 {
        match self {
            BadReceivers::FiftyBehindOneHost => 10,
            BadReceivers::ThreeOfTen | BadReceivers::Backlog(_) => 1,
        }
    }

    fn subscriptions(self) -> usize {
        match self {
            BadReceivers::ThreeOfTen => 3,
            BadReceivers::FiftyBehindOneHost => FIFTY,
            BadReceivers::Backlog(_) => 1,
        }
    }
}

impl FairnessRun {
    /// Runs the load without and with the bad receivers, and prints the results.
    pub async fn run(&self) -> anyhow::Result<FairnessResult> {
        let deployment = Arc::new(self.deployment().await?);
        let result = self.run_in(&deployment).await;
        if result.is_err() && std::env::var_os("HOOKLINE_SOAK_SHOW").is_some() {
            eprintln!("{}", deployment.output().await);
        }
        deployment.end().await?;
        result
    }

    async fn deployment(&self) -> anyhow::Result<Deployment> {
        let setup = self.setup;
        let settings = [
            ("HOOKLINE__DISPATCHER__SLOTS", setup.slots.to_string()),
            (
                "HOOKLINE__DISPATCHER__PREFETCH",
                (8 * setup.slots).to_string(),
            ),
            (
                "HOOKLINE__DISPATCHER__DEADLINE_SECONDS",
                setup.deadline.as_secs().to_string(),
            ),
            // Waits are short: failed deliveries arrive soon after the recovery. The schedule is long: no delivery is
            // exhausted before.
            (
                "HOOKLINE__RETRY__SCHEDULE_SECONDS",
                format!("[5{}]", ",20".repeat(29)),
            ),
            ("HOOKLINE__LOG__LEVEL", "info".to_owned()),
            // A backlog is poured in by one organization.
            ("HOOKLINE__LIMITS__EVENTS_PER_SECOND", "0".to_owned()),
        ];
        let settings = settings.each_ref().map(|(name, value)| (*name, &**value));
        let deployment =
            Deployment::start_on(DependencyRoute::Direct, setup.mode, &settings).await?;
        for _ in 1..setup.dispatchers {
            deployment.start_service(Service::Dispatcher, &[]).await?;
        }
        deployment.wait_ready().await?;
        Ok(deployment)
    }

    async fn run_in(&self, deployment: &Arc<Deployment>) -> anyhow::Result<FairnessResult> {
        let publishers = [publisher(deployment).await?, publisher(deployment).await?];
        let bad = self.bad.behaviours();
        let mut behaviours = vec![ReceiverBehaviour::Healthy; KINDS];
        behaviours[..bad.len()].copy_from_slice(bad);
        let receivers = ReceiverFleet::start(&behaviours)?;
        println!("{self}");

        for kind in bad.len()..KINDS {
            subscribe(&publishers, kind, receivers.url(kind, kind)).await?;
        }
        // The first requests find connections unmade and caches empty.
        let warm = publish_steadily(&publishers, 1_000_000_000, self.publish_rate(WARM)).await?;
        arrived(&receivers, bad.len(), &warm).await?;
        let without = self.measure(&publishers, &receivers, 0).await?.0;
        println!("  without them {without}");

        let mut owed = Vec::new();
        let mut passed = true;
        for number in 0..self.bad.subscriptions() {
            let (kind, index) = match self.bad {
                BadReceivers::FiftyBehindOneHost => (0, FIRST_OF_FIFTY + number),
                BadReceivers::ThreeOfTen | BadReceivers::Backlog(_) => (number, number),
            };
            subscribe(&publishers, kind, receivers.url(kind, index)).await?;
        }
        if let BadReceivers::Backlog(count) = self.bad {
            let begun = Instant::now();
            publishers[0]
                .publish_at_once(TYPES[0], BACKLOG..BACKLOG + count)
                .await?;
            owed.extend((BACKLOG..BACKLOG + count).map(|number| (0, number)));
            self.wait_until_marked(deployment, count).await?;
            println!(
                "  a backlog of {count} was there after {:.0?}",
                begun.elapsed()
            );
        }
        let before = DispatcherMetrics::of(deployment).await?;
        let (with, intended) = self.measure(&publishers, &receivers, 100_000_000).await?;
        let after = DispatcherMetrics::of(deployment).await?;
        println!("  with them    {with}");
        let fair = self.bound.holds(&without, &with);
        let p99 = |latencies: &Latencies| latencies.percentile(99).as_secs_f64();
        println!(
            "  p99 is {:.2} times, {:+.1} ms: {}",
            p99(&with) / p99(&without),
            (p99(&with) - p99(&without)) * 1_000.0,
            pass_or_fail(fair)
        );
        passed &= fair;
        passed &= self.is_bounded(&before, &after);

        for one in &intended {
            match self.bad {
                _ if one.kind >= bad.len() => {}
                BadReceivers::FiftyBehindOneHost => {
                    owed.extend((0..FIFTY).map(|number| (FIRST_OF_FIFTY + number, one.number)));
                }
                BadReceivers::ThreeOfTen | BadReceivers::Backlog(_) => {
                    owed.push((one.kind, one.number))
                }
            }
        }
        receivers.recover();
        let lost = self.wait_for(&receivers, owed.clone()).await?;
        let recovered = DispatcherMetrics::of(deployment).await?;
        println!(
            "  the bad ones recover: {} owed, {} arrived, {lost} lost, {:.0} read from the backlog, after {:.0?}: {}",
            owed.len(),
            owed.len() - lost,
            recovered.read - after.read,
            after.at.elapsed(),
            pass_or_fail(lost == 0)
        );
        passed &= lost == 0;
        if self.bad == BadReceivers::FiftyBehindOneHost
            && matches!(self.bound, LatencyBound::Strict)
        {
            // The cost of a fan-out of fifty, whether they hang or not.
            let shorter = FairnessRun {
                duration: self.duration.min(WELL),
                ..*self
            };
            let (well, _) = shorter
                .measure(&publishers, &receivers, 200_000_000)
                .await?;
            println!("  with them, well {well}");
        }
        Ok(FairnessResult {
            without,
            with,
            passed,
        })
    }

    fn publish_rate(&self, duration: Duration) -> PublishRate {
        PublishRate {
            rate: self.rate,
            first_kind: self.bad.first_kind(),
            duration,
        }
    }

    async fn measure(
        &self,
        publishers: &[FairnessPublisher; 2],
        receivers: &ReceiverFleet,
        first: u64,
    ) -> anyhow::Result<(Latencies, Vec<Intended>)> {
        let intended =
            publish_steadily(publishers, first, self.publish_rate(self.duration)).await?;
        let bad = self.bad.behaviours().len();
        arrived(receivers, bad, &intended).await?;
        let mut latencies = Latencies::default();
        let begin = intended.first().context("no load")?.at;
        for one in intended.iter().filter(|one| one.kind >= bad) {
            let at = receivers
                .taken_at(one.kind, one.number)
                .context("not taken")?;
            latencies.note(one.at - begin, at.saturating_duration_since(one.at));
        }
        Ok((latencies, intended))
    }

    /// Every delivery of the backlog has been in a dispatcher's hands once.
    async fn wait_until_marked(&self, deployment: &Deployment, count: u64) -> anyhow::Result<()> {
        let begun = Instant::now();
        while DispatcherMetrics::of(deployment).await?.marked < 0.95 * count as f64 {
            ensure!(begun.elapsed() < self.patience, "the backlog is not marked");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    fn is_bounded(&self, before: &DispatcherMetrics, after: &DispatcherMetrics) -> bool {
        let seconds = (after.at - before.at).as_secs_f64();
        let marked = (after.marked - before.marked) / seconds;
        let statements = (after.statements - before.statements) / seconds;
        let arriving = self.deliveries_per_second();
        let most = arriving + MOST_MARKED * self.setup.dispatchers as f64;
        let bounded = marked <= most && after.memory <= MOST_MEMORY;
        println!(
            "  marked: {marked:.0} messages/s in {statements:.1} statements/s, {:.0} breakers open, \
             at most {} MiB of memory: {}",
            after.open,
            after.memory,
            pass_or_fail(bounded)
        );
        bounded
    }

    /// The deliveries to the bad endpoints.
    fn deliveries_per_second(&self) -> f64 {
        let events = f64::from(self.rate) / KINDS as f64 / self.bad.first_kind() as f64;
        events * self.bad.subscriptions() as f64
    }

    /// How many slots the bad endpoints would hold without a bound.
    fn demand(&self) -> f64 {
        let behaviours = self.bad.behaviours();
        let each = self.deliveries_per_second() / behaviours.len() as f64;
        let held = behaviours
            .iter()
            .map(|one| one.holds(self.setup.deadline).as_secs_f64());
        each * held.sum::<f64>()
    }

    /// Waits while deliveries make progress, and returns how many never came.
    async fn wait_for(
        &self,
        receivers: &ReceiverFleet,
        mut owed: Vec<(usize, u64)>,
    ) -> anyhow::Result<usize> {
        let mut progress = Instant::now();
        while !owed.is_empty() && progress.elapsed() < self.patience {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = owed.len();
            owed.retain(|(subscription, event)| {
                receivers.taken_at(*subscription, *event).is_none()
            });
            if owed.len() < before {
                progress = Instant::now();
            }
        }
        Ok(owed.len())
    }
}

const WARM: Duration = Duration::from_secs(3);

/// For how long the fifty are watched when they are well.
const WELL: Duration = Duration::from_secs(60);

/// Numbers of the fifty, beside those of the ten.
const FIRST_OF_FIFTY: usize = 1_000;

/// The numbers of the backlog's events, beside those of the load.
const BACKLOG: u64 = 500_000_000;

fn pass_or_fail(good: bool) -> &'static str {
    match good {
        true => "pass",
        false => "FAIL",
    }
}

async fn publisher(deployment: &Arc<Deployment>) -> anyhow::Result<FairnessPublisher> {
    let tenant = deployment.tenant().await?;
    Ok(FairnessPublisher {
        deployment: Arc::clone(deployment),
        client: tenant.client.clone(),
        organization: tenant.organization.clone(),
    })
}

async fn subscribe(
    publishers: &[FairnessPublisher; 2],
    kind: usize,
    url: String,
) -> anyhow::Result<()> {
    let event_type = TYPES[kind % TYPES.len()];
    let body = json!({"name": "soak", "url": url, "events": [event_type], "secret": "hush"});
    publishers[kind / TYPES.len()]
        .client
        .subscribe(&body)
        .await?;
    Ok(())
}

/// Waits until every event for a healthy endpoint is there.
async fn arrived(
    receivers: &ReceiverFleet,
    bad: usize,
    intended: &[Intended],
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let healthy = intended.iter().filter(|one| one.kind >= bad);
    for one in healthy {
        while receivers.taken_at(one.kind, one.number).is_none() {
            ensure!(
                begun.elapsed() < Duration::from_secs(60),
                "event {} for healthy endpoint {} has not come after a minute",
                one.number,
                one.kind
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

impl std::fmt::Display for FairnessRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let FairnessSetup {
            mode,
            dispatchers,
            slots,
            deadline,
        } = self.setup;
        let who = match self.bad {
            BadReceivers::ThreeOfTen => {
                "of ten endpoints one hangs, one answers 500 after 10 s, one trickles its body"
                    .to_owned()
            }
            BadReceivers::FiftyBehindOneHost => {
                "fifty subscriptions to one host that hangs, nine healthy endpoints".to_owned()
            }
            BadReceivers::Backlog(count) => {
                format!("one of ten endpoints hangs with a backlog of {count}")
            }
        };
        let all = slots * dispatchers;
        writeln!(f, "{mode:?}, {dispatchers} dispatcher(s): {who}")?;
        write!(
            f,
            "  {} events/s for {:?}, each twice; a request may take {deadline:?}; the bad ones want {:.0} slots, \
             {:.1} times the {all} that there are",
            self.rate,
            self.duration,
            self.demand(),
            self.demand() / all as f64
        )
    }
}
