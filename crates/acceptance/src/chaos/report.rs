//! What a run has come to: the line that says it all, and a page for `docs/`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::ledger::longest_gap;
use super::schedule::{Blow, Target};
use super::{Counts, Performed, Plan};

/// What a run has come to.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was planned.
    pub plan: Plan,
    /// The servers' names and versions.
    pub versions: Vec<String>,
    /// Everything in numbers.
    pub counts: Counts,
    /// When requests were answered with 2xx.
    pub deliveries: Vec<Instant>,
    /// The acts that were done.
    pub performed: Vec<Performed>,
    /// When the load ended.
    pub load_ended: Instant,
    /// How long after the load the last owed delivery came.
    pub settled_after: Duration,
    /// Events and deliveries that were put aside as dead letters. Nothing in a run is at fault for it.
    pub put_aside: u64,
    /// What went wrong.
    pub problems: Vec<String>,
}

const ANY: fn(Target) -> bool = |_| true;

/// How long deliveries stood still after acts of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Still {
    times: usize,
    longest: Duration,
    together: Duration,
}

impl Report {
    /// Nothing was lost, and nothing went wrong.
    pub fn is_good(&self) -> bool {
        self.counts.lost == 0
            && self.put_aside == 0
            && self.counts.confirmed > 0
            && self.problems.is_empty()
    }

    /// The last line of a run.
    pub fn line(&self) -> String {
        let Counts {
            confirmed,
            owed,
            delivered,
            lost,
            duplicates,
            ..
        } = self.counts;
        let kills =
            self.hits(Blow::Kill, ANY) + self.hits(Blow::Fill, |target| target != Target::Disk);
        format!(
            "chaos: confirmed={confirmed} owed={owed} delivered={delivered} lost={lost} \
             put_aside={} duplicates={duplicates} kills={kills} freezes={} stops={} fills={} faults={} abuses={} \
             ({}, seed {}, {} s)",
            self.put_aside,
            self.hits(Blow::Freeze, ANY),
            self.hits(Blow::Stop, ANY),
            self.hits(Blow::Fill, |target| target == Target::Disk),
            self.performed_as(|blow| matches!(blow, Blow::Raise(_))),
            self.performed_as(|blow| matches!(blow, Blow::Abuse(_))),
            self.name(),
            self.plan.seed,
            self.plan.length.as_secs(),
        )
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
            owed,
            delivered,
            lost,
            besides,
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
            "- {} s of load, {} acts; the last owed delivery came {:.1} s after the load\n",
            self.plan.length.as_secs(),
            self.performed.len(),
            self.settled_after.as_secs_f64()
        )?;
        writeln!(page, "| | |\n|---|--:|")?;
        for (what, count) in [
            ("events whose publish was confirmed", confirmed),
            ("events whose publish failed and was given up", unknown),
            ("deliveries owed for the confirmed ones", owed),
            ("of these delivered", delivered),
            ("of these lost", lost),
            (
                "put aside as dead letters",
                usize::try_from(self.put_aside).unwrap_or(usize::MAX),
            ),
            (
                "delivered besides (publish or subscription not confirmed)",
                besides,
            ),
            ("publishes answered with 503 or 429", refused),
            ("requests", requests),
            (
                "requests for what had been taken before, same `webhook-id`",
                duplicates,
            ),
            ("signatures verified", verified),
        ] {
            writeln!(page, "| {what} | {count} |")?;
        }
        writeln!(
            page,
            "\n| act | times | no delivery for, on average | at most |\n|---|--:|--:|--:|"
        )?;
        for (act, still) in self.standstills() {
            let average = still.together.as_secs_f64() / still.times as f64;
            let (times, longest) = (still.times, still.longest.as_secs_f64());
            writeln!(
                page,
                "| {act} | {times} | {average:.1} s | {longest:.1} s |"
            )?;
        }
        if !self.problems.is_empty() {
            writeln!(page, "\nProblems:\n")?;
            for problem in &self.problems {
                writeln!(page, "- {problem}")?;
            }
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.plan.scene.name()
    }

    fn hits(&self, blow: Blow, counts: fn(Target) -> bool) -> usize {
        self.performed
            .iter()
            .filter(|done| done.act.blow == blow)
            .flat_map(|done| &done.act.targets)
            .filter(|target| counts(**target))
            .count()
    }

    fn performed_as(&self, kind: fn(Blow) -> bool) -> usize {
        let done = self.performed.iter();
        done.filter(|done| kind(done.act.blow)).count()
    }

    /// An act's time reaches to the next one.
    fn standstills(&self) -> BTreeMap<String, Still> {
        let mut all: BTreeMap<String, Still> = BTreeMap::new();
        for (index, done) in self.performed.iter().enumerate() {
            let next = self.performed.get(index + 1);
            let until = next.map_or(self.load_ended, |next| next.hit).max(done.hit);
            let gap = longest_gap(&self.deliveries, done.hit, until);
            let mut parts: Vec<&str> = done.act.targets.iter().copied().map(Target::part).collect();
            parts.sort_unstable();
            let still = all
                .entry(format!("{} {}", done.act.blow, parts.join(" and ")))
                .or_default();
            still.times += 1;
            still.together += gap;
            still.longest = still.longest.max(gap);
        }
        all
    }
}
