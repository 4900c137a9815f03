//! Tables of runs as Markdown, a row for each run.

use std::fmt;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use super::measured::{Second, SimulationResult};
use super::scenario::{OUTAGE, PUBLISHED, SLOTS, TO_DEAD};

/// Runs with healthy and bad endpoints.
pub(super) struct Fairness(Table);

impl Fairness {
    pub(super) fn new() -> Self {
        Self(table(&[
            "dispatchers",
            "healthy wait p50 / p99 / max, ms",
            "500 ms endpoint, p99",
            "marked /s, mean / most",
            "by one, most",
            "slots of bad ones",
            "open to one host",
            "to one endpoint",
            "permit by each",
            "found by a search",
            "99 % / all drained, s",
        ]))
    }

    pub(super) fn add(&mut self, name: &str, dispatchers: usize, run: &SimulationResult) {
        let (healthy, slow) = (run.healthy(0..PUBLISHED), run.slow(0..PUBLISHED));
        let most = |what: fn(&Second) -> u32| run.most(0..run.seconds.len(), what);
        let mean = |what: fn(&Second) -> u32| run.mean(0..run.seconds.len(), what);
        let slots = (dispatchers * SLOTS) as f64;
        let of_bad = f64::from(most(|second| second.bad_in_flight)) / slots;
        let permit = f64::from(most(|second| second.in_memory)) / dispatchers as f64;
        let marked = run.mean(OUTAGE, |second| second.marked);
        let searches = mean(|second| second.searches);
        let found = match searches > 0.0 {
            true => format!("{:.1}", mean(|second| second.found) / searches),
            false => "–".to_owned(),
        };
        let drained = |share| run.drained(share).saturating_sub(OUTAGE.end);
        self.0.add_row([
            name.to_owned(),
            format!("{} / {} / {}", healthy.p50, healthy.p99, healthy.max),
            slow.p99.to_string(),
            format!("{marked:.0} / {}", most(|second| second.marked)),
            most(|second| second.marked_by_one).to_string(),
            format!("{:.0} %", 100.0 * of_bad),
            most(|second| second.to_tenant).to_string(),
            most(|second| second.to_one_hanging).to_string(),
            format!("{permit:.0}"),
            found,
            format!("{} / {}", drained(0.99), drained(1.0)),
        ]);
    }
}

impl fmt::Display for Fairness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Runs with one endpoint that is dead for ten minutes.
pub(super) struct Dead(Table);

impl Dead {
    pub(super) fn new() -> Self {
        Self(table(&[
            "dispatchers",
            "published /s",
            "requests /s in the 1st minute",
            "in the 10th",
            "marked /s in the 10th",
        ]))
    }

    pub(super) fn add(&mut self, dispatchers: usize, run: &SimulationResult) {
        let (first, tenth) = (0..60, 540..600);
        self.0.add_row([
            dispatchers.to_string(),
            format!("{:.1}", TO_DEAD * dispatchers as f64),
            format!("{:.2}", run.mean(first, |second| second.to_dead)),
            format!("{:.2}", run.mean(tenth.clone(), |second| second.to_dead)),
            format!("{:.0}", run.mean(tenth, |second| second.marked)),
        ]);
    }
}

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    table
}
