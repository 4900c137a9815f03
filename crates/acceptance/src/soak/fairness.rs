//! One trial: a home, a load, and bad receivers beside the good ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::latency::{Latencies, Rule};
use super::load::{Intended, KINDS, Pace, Publisher, TYPES, publish_steadily};
use super::metrics::Figures;
use super::receivers::{Manner, Street};
use hookline_testkit::deployment::{Home, Kind, Part, Way};

/// The endpoints that misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// Three of ten endpoints: one hangs, one answers 500 after 10 s, one trickles its body.
    ThreeOfTen,
    /// Fifty subscriptions to one host that hangs.
    FiftyBehindOneHost,
    /// One endpoint hangs, with this many deliveries waiting for it.
    Backlog(u64),
}

/// The home and the dispatchers of a trial.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    /// Which home.
    pub kind: Kind,
    /// How many dispatchers.
    pub dispatchers: usize,
    /// Requests in flight at once, of each of them.
    pub slots: usize,
    /// How long a request may take.
    pub deadline: Duration,
}

/// The settings of a trial.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Where.
    pub cast: Cast,
    /// The endpoints that misbehave beside the healthy ones.
    pub bad: Bad,
    /// Events a second, for ten endpoints together.
    pub rate: u32,
    /// For how long, without the bad ones and with them.
    pub duration: Duration,
    /// The bound that the latencies must keep.
    pub rule: Rule,
    /// How long the last delivery may take once all have recovered.
    pub patience: Duration,
}

/// The result of a trial.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The healthy endpoints alone.
    pub without: Latencies,
    /// The healthy endpoints beside the bad ones.
    pub with: Latencies,
    /// Whether the bad endpoints cost the healthy ones no more than the rule says. All owed deliveries must have
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

impl Bad {
    /// The receivers behind the first kinds of events; the others are healthy.
    fn manners(self) -> &'static [Manner] {
        match self {
            Bad::ThreeOfTen => &[Manner::Hangs, Manner::FailsLate, Manner::Trickles],
            Bad::FiftyBehindOneHost | Bad::Backlog(_) => &[Manner::Hangs],
        }
    }

    /// Fifty subscriptions get each event fifty times: of a tenth of the events, that is five times
    /// what the others get.
    fn first_kind(self) -> u64 {
        match self {
            Bad::FiftyBehindOneHost => 10,
            Bad::ThreeOfTen | Bad::Backlog(_) => 1,
        }
    }

    fn subscriptions(self) -> usize {
        match self {
            Bad::ThreeOfTen => 3,
            Bad::FiftyBehindOneHost => FIFTY,
            Bad::Backlog(_) => 1,
        }
    }
}

impl Trial {
    /// Runs the trial and prints its results.
    ///
    /// # Errors
    /// When it cannot be run to its end.
    pub async fn run(&self) -> anyhow::Result<Verdict> {
        let home = Arc::new(self.home().await?);
        let verdict = self.run_in(&home).await;
        if verdict.is_err() && std::env::var_os("HOOKLINE_SOAK_SHOW").is_some() {
            eprintln!("{}", home.said().await);
        }
        home.end().await?;
        verdict
    }

    async fn home(&self) -> anyhow::Result<Home> {
        let cast = self.cast;
        let settings = [
            ("HOOKLINE__DISPATCHER__SLOTS", cast.slots.to_string()),
            (
                "HOOKLINE__DISPATCHER__PREFETCH",
                (8 * cast.slots).to_string(),
            ),
            (
                "HOOKLINE__DISPATCHER__DEADLINE_SECONDS",
                cast.deadline.as_secs().to_string(),
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
        let home = Home::start_by(Way::Straight, cast.kind, &settings).await?;
        for _ in 1..cast.dispatchers {
            home.start_part(Part::Dispatcher, &[]).await?;
        }
        home.wait_ready().await?;
        Ok(home)
    }

    async fn run_in(&self, home: &Arc<Home>) -> anyhow::Result<Verdict> {
        let publishers = [publisher(home).await?, publisher(home).await?];
        let bad = self.bad.manners();
        let mut manners = vec![Manner::Healthy; KINDS];
        manners[..bad.len()].copy_from_slice(bad);
        let street = Street::open(&manners)?;
        println!("{self}");

        for kind in bad.len()..KINDS {
            subscribe(&publishers, kind, street.url(kind, kind)).await?;
        }
        // The first requests find connections unmade and caches empty.
        let warm = publish_steadily(&publishers, 1_000_000_000, self.pace(WARM)).await?;
        arrived(&street, bad.len(), &warm).await?;
        let without = self.steadily(&publishers, &street, 0).await?.0;
        println!("  without them {without}");

        let mut owed = Vec::new();
        let mut passed = true;
        for number in 0..self.bad.subscriptions() {
            let (kind, index) = match self.bad {
                Bad::FiftyBehindOneHost => (0, FIRST_OF_FIFTY + number),
                Bad::ThreeOfTen | Bad::Backlog(_) => (number, number),
            };
            subscribe(&publishers, kind, street.url(kind, index)).await?;
        }
        if let Bad::Backlog(count) = self.bad {
            let begun = Instant::now();
            publishers[0]
                .pour(TYPES[0], BACKLOG..BACKLOG + count)
                .await?;
            owed.extend((BACKLOG..BACKLOG + count).map(|number| (0, number)));
            self.wait_until_marked(home, count).await?;
            println!(
                "  a backlog of {count} was there after {:.0?}",
                begun.elapsed()
            );
        }
        let before = Figures::of(home).await?;
        let (with, intended) = self.steadily(&publishers, &street, 100_000_000).await?;
        let after = Figures::of(home).await?;
        println!("  with them    {with}");
        let fair = self.rule.holds(&without, &with);
        let p99 = |latencies: &Latencies| latencies.percentile(99).as_secs_f64();
        println!(
            "  p99 is {:.2} times, {:+.1} ms: {}",
            p99(&with) / p99(&without),
            (p99(&with) - p99(&without)) * 1_000.0,
            said(fair)
        );
        passed &= fair;
        passed &= self.is_bounded(&before, &after);

        for one in &intended {
            match self.bad {
                _ if one.kind >= bad.len() => {}
                Bad::FiftyBehindOneHost => {
                    owed.extend((0..FIFTY).map(|number| (FIRST_OF_FIFTY + number, one.number)));
                }
                Bad::ThreeOfTen | Bad::Backlog(_) => owed.push((one.kind, one.number)),
            }
        }
        street.recover();
        let lost = self.wait_for(&street, owed.clone()).await?;
        let recovered = Figures::of(home).await?;
        println!(
            "  the bad ones recover: {} owed, {} arrived, {lost} lost, {:.0} read from the backlog, after {:.0?}: {}",
            owed.len(),
            owed.len() - lost,
            recovered.read - after.read,
            after.at.elapsed(),
            said(lost == 0)
        );
        passed &= lost == 0;
        if self.bad == Bad::FiftyBehindOneHost && matches!(self.rule, Rule::Strict) {
            // The cost of a fan-out of fifty, whether they hang or not.
            let shorter = Trial {
                duration: self.duration.min(WELL),
                ..*self
            };
            let (well, _) = shorter.steadily(&publishers, &street, 200_000_000).await?;
            println!("  with them, well {well}");
        }
        Ok(Verdict {
            without,
            with,
            passed,
        })
    }

    fn pace(&self, duration: Duration) -> Pace {
        Pace {
            rate: self.rate,
            first_kind: self.bad.first_kind(),
            duration,
        }
    }

    async fn steadily(
        &self,
        publishers: &[Publisher; 2],
        street: &Street,
        first: u64,
    ) -> anyhow::Result<(Latencies, Vec<Intended>)> {
        let intended = publish_steadily(publishers, first, self.pace(self.duration)).await?;
        let bad = self.bad.manners().len();
        arrived(street, bad, &intended).await?;
        let mut latencies = Latencies::default();
        let begin = intended.first().context("no load")?.at;
        for one in intended.iter().filter(|one| one.kind >= bad) {
            let at = street.taken_at(one.kind, one.number).context("not taken")?;
            latencies.note(one.at - begin, at.saturating_duration_since(one.at));
        }
        Ok((latencies, intended))
    }

    /// Every delivery of the backlog has been in a dispatcher's hands once.
    async fn wait_until_marked(&self, home: &Home, count: u64) -> anyhow::Result<()> {
        let begun = Instant::now();
        while Figures::of(home).await?.marked < 0.95 * count as f64 {
            ensure!(begun.elapsed() < self.patience, "the backlog is not marked");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    fn is_bounded(&self, before: &Figures, after: &Figures) -> bool {
        let seconds = (after.at - before.at).as_secs_f64();
        let marked = (after.marked - before.marked) / seconds;
        let statements = (after.statements - before.statements) / seconds;
        let arriving = self.deliveries_per_second();
        let most = arriving + MOST_MARKED * self.cast.dispatchers as f64;
        let bounded = marked <= most && after.memory <= MOST_MEMORY;
        println!(
            "  marked: {marked:.0} messages/s in {statements:.1} statements/s, {:.0} breakers open, \
             at most {} MiB of memory: {}",
            after.open,
            after.memory,
            said(bounded)
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
        let manners = self.bad.manners();
        let each = self.deliveries_per_second() / manners.len() as f64;
        let held = manners
            .iter()
            .map(|one| one.holds(self.cast.deadline).as_secs_f64());
        each * held.sum::<f64>()
    }

    /// Waits while deliveries make progress, and returns how many never came.
    async fn wait_for(
        &self,
        street: &Street,
        mut owed: Vec<(usize, u64)>,
    ) -> anyhow::Result<usize> {
        let mut progress = Instant::now();
        while !owed.is_empty() && progress.elapsed() < self.patience {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = owed.len();
            owed.retain(|(subscription, event)| street.taken_at(*subscription, *event).is_none());
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

fn said(good: bool) -> &'static str {
    match good {
        true => "pass",
        false => "FAIL",
    }
}

async fn publisher(home: &Arc<Home>) -> anyhow::Result<Publisher> {
    let tenant = home.tenant().await?;
    Ok(Publisher {
        home: Arc::clone(home),
        client: tenant.client.clone(),
        organization: tenant.organization.clone(),
    })
}

async fn subscribe(publishers: &[Publisher; 2], kind: usize, url: String) -> anyhow::Result<()> {
    let event_type = TYPES[kind % TYPES.len()];
    let body = json!({"name": "soak", "url": url, "events": [event_type], "secret": "hush"});
    publishers[kind / TYPES.len()]
        .client
        .subscribe(&body)
        .await?;
    Ok(())
}

/// Waits until every event for a healthy endpoint is there.
async fn arrived(street: &Street, bad: usize, intended: &[Intended]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let healthy = intended.iter().filter(|one| one.kind >= bad);
    for one in healthy {
        while street.taken_at(one.kind, one.number).is_none() {
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

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cast {
            kind,
            dispatchers,
            slots,
            deadline,
        } = self.cast;
        let who = match self.bad {
            Bad::ThreeOfTen => {
                "of ten endpoints one hangs, one answers 500 after 10 s, one trickles its body"
                    .to_owned()
            }
            Bad::FiftyBehindOneHost => {
                "fifty subscriptions to one host that hangs, nine healthy endpoints".to_owned()
            }
            Bad::Backlog(count) => {
                format!("one of ten endpoints hangs with a backlog of {count}")
            }
        };
        let all = slots * dispatchers;
        writeln!(f, "{kind:?}, {dispatchers} dispatcher(s): {who}")?;
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
