//! The report of a run: a summary line, and a page for `docs/`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::fault::{CHURN, Fault, Target};
use super::ledger::{Counts, longest_gap};
use super::plan::{Performed, Plan};
use super::repeats::Repeats;
use hookline_testkit::deployment::Mode;

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The plan of the run.
    pub plan: Plan,
    /// The servers' names and versions.
    pub versions: Vec<String>,
    /// Everything in numbers.
    pub counts: Counts,
    /// Requests for deliveries that had been taken before, by cause.
    pub repeats: Repeats,
    /// When requests were answered with 2xx.
    pub deliveries: Vec<Instant>,
    /// When publishes were confirmed.
    pub confirms: Vec<Instant>,
    /// The faults that were done.
    pub performed: Vec<Performed>,
    /// When the load ended.
    pub load_ended: Instant,
    /// How long after the load the last owed delivery came.
    pub settled_after: Duration,
    /// Events and deliveries that were dead-lettered. Nothing in a run is at fault for it.
    pub put_aside: u64,
    /// The failures of the run.
    pub problems: Vec<String>,
}

const ANY: fn(Target) -> bool = |_| true;

/// How long deliveries, and publishes, may stand still after a node of a cluster was killed.
const AFTER_A_KILL: Duration = Duration::from_secs(5);

/// The same after it was frozen: the others find that out by its silence.
const AFTER_A_FREEZE: Duration = Duration::from_secs(15);

/// How long deliveries stood still after faults of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Standstill {
    times: usize,
    longest: Duration,
    together: Duration,
    longest_publishing: Duration,
}

impl Report {
    /// Nothing was lost, and nothing went wrong.
    pub fn is_good(&self) -> bool {
        self.counts.lost == 0
            && self.put_aside == 0
            && self.counts.confirmed > 0
            && self.repeats.are_allowed()
            && self.problems.is_empty()
            && self.too_long().is_empty()
    }

    /// Everything that went wrong, in words.
    pub fn all_problems(&self) -> Vec<String> {
        let mut all = self.problems.clone();
        let Repeats {
            explained,
            unexplained,
            bound,
            ..
        } = self.repeats;
        if !self.repeats.are_allowed() {
            all.push(format!(
                "requests were repeated: {unexplained} without a fault that explains it, {explained} of {bound} with one"
            ));
        }
        all.extend(self.too_long());
        all
    }

    /// Faults on a node of a cluster after which deliveries, or publishes, stood still for too long.
    fn too_long(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (done, until) in self.with_ends() {
            let most = match (done.injection.fault, &done.injection.targets[..]) {
                (Fault::Kill, [Target::Node(_)]) => AFTER_A_KILL,
                (Fault::Freeze, [Target::Node(_)]) => AFTER_A_FREEZE,
                _ => continue,
            };
            for (what, times) in [
                ("delivered", &self.deliveries),
                ("confirmed", &self.confirms),
            ] {
                let gap = longest_gap(times, done.began, until);
                if gap > most {
                    let (gap, injection) = (gap.as_secs_f64(), &done.injection);
                    all.push(format!(
                        "nothing was {what} for {gap:.1} s after: {injection}"
                    ));
                }
            }
        }
        all
    }

    /// The last line of a run.
    pub fn line(&self) -> String {
        let Counts {
            confirmed,
            owed,
            delivered,
            lost,
            duplicates,
            lost_by_failover,
            ..
        } = self.counts;
        let comings = self.performed_as(|fault| fault == Fault::Churn);
        let kills = self.hits(Fault::Kill, ANY)
            + self.hits(Fault::FillDisk, |target| target != Target::Disk);
        format!(
            "chaos: confirmed={confirmed} gone={lost_by_failover} owed={owed} delivered={delivered} lost={lost} \
             put_aside={} duplicates={duplicates} after_late_answers={} unexplained={} bound={} \
             kills={} freezes={} stops={} fills={} faults={} abuses={} wake_ups_dropped={} \
             joins={} outages={} cuts={} clocks={} resizes={} hangs={} \
             failovers={} ends_at_points={} \
             ({}, seed {}, {} s{})",
            self.put_aside,
            self.repeats.after_late_answers,
            self.repeats.unexplained,
            self.repeats.bound,
            kills + comings * CHURN.kills(),
            self.hits(Fault::Freeze, ANY) + self.hits(Fault::LongFreeze, ANY),
            self.hits(Fault::Stop, ANY) + comings * CHURN.stops(),
            self.hits(Fault::FillDisk, |target| target == Target::Disk),
            self.performed_as(|fault| matches!(fault, Fault::Database(_))),
            self.performed_as(|fault| matches!(fault, Fault::Abuse(_))),
            self.performed_as(|fault| matches!(fault, Fault::DropWakeUps(_))),
            comings * (CHURN.kills() + CHURN.stops()),
            self.performed_as(|fault| matches!(fault, Fault::Outage(_))),
            self.performed_as(|fault| matches!(fault, Fault::Cut(_) | Fault::Silence(_))),
            self.performed_as(|fault| matches!(fault, Fault::Clock(_))),
            self.performed_as(|fault| matches!(fault, Fault::Repartition(_))),
            self.performed_as(|fault| matches!(fault, Fault::HangScheduler)),
            self.performed_as(|fault| matches!(fault, Fault::FailOver)),
            self.performed_as(|fault| matches!(fault, Fault::CrashAt(_))),
            self.name(),
            self.plan.seed,
            self.plan.length.as_secs(),
            self.conditions(),
        )
    }

    /// The number of dispatchers and the dropped wake-ups, as the summary line adds them.
    fn conditions(&self) -> String {
        let Plan {
            scenario,
            dispatchers,
            drop_wake_ups,
            ..
        } = self.plan;
        let mut conditions = String::new();
        if scenario.mode() == Mode::Distributed {
            conditions.push_str(&format!(", {dispatchers} dispatchers"));
        }
        match drop_wake_ups {
            Some(1) => conditions.push_str(", without wake-ups"),
            Some(every) => conditions.push_str(&format!(", without one of {every} wake-ups")),
            None => {}
        }
        conditions
    }

    /// The same for people, as Markdown.
    pub fn page(&self) -> String {
        let mut page = String::new();
        // Writing to a string does not fail.
        let _ = self.write_page(&mut page);
        page
    }

    fn write_page(&self, page: &mut String) -> std::fmt::Result {
        let Counts {
            confirmed,
            unknown,
            lost_by_failover,
            subscriptions_lost_by_failover,
            owed,
            delivered,
            lost,
            optional,
            duplicates,
            requests,
            verified,
            refused,
        } = self.counts;
        writeln!(page, "## {}\n\n`{}`\n", self.name(), self.line())?;
        for version in &self.versions {
            writeln!(page, "- {version}")?;
        }
        writeln!(
            page,
            "- {} s of load, {} faults; the last owed delivery came {:.1} s after the load\n",
            self.plan.length.as_secs(),
            self.performed.len(),
            self.settled_after.as_secs_f64()
        )?;
        writeln!(page, "| | |\n|---|--:|")?;
        for (what, count) in [
            ("confirmed events", confirmed),
            ("events given up after a failed publish", unknown),
            ("confirmed events that failovers lost", lost_by_failover),
            (
                "subscriptions that failovers lost",
                subscriptions_lost_by_failover,
            ),
            ("deliveries owed for the other confirmed ones", owed),
            ("of these delivered", delivered),
            ("of these lost", lost),
            (
                "dead letters",
                usize::try_from(self.put_aside).unwrap_or(usize::MAX),
            ),
            (
                "also delivered (publish or subscription not confirmed)",
                optional,
            ),
            ("publishes answered with 503 or 429", refused),
            ("requests", requests),
            (
                "requests for deliveries with an earlier 2xx, same `webhook-id`",
                duplicates,
            ),
            (
                "of these after a late response",
                self.repeats.after_late_answers,
            ),
            ("of these explained by a fault", self.repeats.explained),
            ("maximum, by the faults", self.repeats.bound),
            ("signatures verified", verified),
        ] {
            writeln!(page, "| {what} | {count} |")?;
        }
        writeln!(
            page,
            "\n| fault | times | no delivery for, on average | at most | no publish confirmed for at most |\n\
             |---|--:|--:|--:|--:|"
        )?;
        for (injection, still) in self.standstills() {
            let average = still.together.as_secs_f64() / still.times as f64;
            let (times, longest) = (still.times, still.longest.as_secs_f64());
            let publishing = still.longest_publishing.as_secs_f64();
            writeln!(
                page,
                "| {injection} | {times} | {average:.1} s | {longest:.1} s | {publishing:.1} s |"
            )?;
        }
        let problems = self.all_problems();
        if !problems.is_empty() {
            writeln!(page, "\nProblems:\n")?;
            for problem in &problems {
                writeln!(page, "- {problem}")?;
            }
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.plan.scenario.name()
    }

    fn hits(&self, fault: Fault, counts: fn(Target) -> bool) -> usize {
        self.performed
            .iter()
            .filter(|done| done.injection.fault == fault)
            .flat_map(|done| &done.injection.targets)
            .filter(|target| counts(**target))
            .count()
    }

    fn performed_as(&self, kind: fn(Fault) -> bool) -> usize {
        let done = self.performed.iter();
        done.filter(|done| kind(done.injection.fault)).count()
    }

    /// A fault's time reaches to the next one.
    fn with_ends(&self) -> impl Iterator<Item = (&Performed, Instant)> {
        self.performed.iter().enumerate().map(|(index, done)| {
            let next = self.performed.get(index + 1);
            let until = next
                .map_or(self.load_ended, |next| next.began)
                .max(done.began);
            (done, until)
        })
    }

    fn standstills(&self) -> BTreeMap<String, Standstill> {
        let mut all: BTreeMap<String, Standstill> = BTreeMap::new();
        for (done, until) in self.with_ends() {
            let gap = longest_gap(&self.deliveries, done.began, until);
            let publishing = longest_gap(&self.confirms, done.began, until);
            let mut parts: Vec<&str> = done
                .injection
                .targets
                .iter()
                .copied()
                .map(Target::part)
                .collect();
            parts.sort_unstable();
            let injection = format!("{} {}", done.injection.fault.kind(), parts.join(" and "));
            let still = all.entry(injection.trim().to_owned()).or_default();
            still.times += 1;
            still.together += gap;
            still.longest = still.longest.max(gap);
            still.longest_publishing = still.longest_publishing.max(publishing);
        }
        all
    }
}
