//! Measured figures, and their summaries over several runs.

use std::collections::BTreeMap;

use hookline_testkit::deployment::Mode;
use serde::Serialize;

/// The value that a figure should reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub fn is_reached(self, value: f64) -> bool {
        match self {
            Goal::AtLeast(least) => value >= least,
            Goal::AtMost(most) => value <= most,
        }
    }
}

/// A measured value of one run.
#[derive(Debug, Clone)]
pub struct Measurement {
    pub row: ResultRow,
    pub value: f64,
}

/// A row of the table: the key by which figures of several runs are summarized.
#[derive(Debug, Clone, Serialize)]
pub struct ResultRow {
    /// The workload's letter, or `raw` for the machine without Hookline.
    pub scenario: &'static str,
    /// None for the machine without Hookline.
    #[serde(serialize_with = "as_text")]
    pub mode: Option<Mode>,
    /// The name of the figure.
    pub what: String,
    pub unit: &'static str,
    pub goal: Option<Goal>,
}

fn as_text<S: serde::Serializer>(mode: &Option<Mode>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(name_of(*mode))
}

/// The name of a mode in a table.
pub fn name_of(mode: Option<Mode>) -> &'static str {
    match mode {
        None => "machine",
        Some(Mode::Distributed) => "distributed",
        Some(Mode::Standalone) => "embedded",
    }
}

/// Creates the figures of one workload in one mode.
#[derive(Debug, Clone, Copy)]
pub struct Labels {
    /// The workload's letter.
    pub scenario: &'static str,
    pub mode: Option<Mode>,
}

impl Labels {
    /// For figures of the machine without Hookline.
    pub const MACHINE: Self = Self {
        scenario: "raw",
        mode: None,
    };

    /// A figure without a goal.
    pub fn of(self, what: impl Into<String>, value: f64, unit: &'static str) -> Measurement {
        let Self { scenario, mode } = self;
        let row = ResultRow {
            scenario,
            mode,
            what: what.into(),
            unit,
            goal: None,
        };
        Measurement { row, value }
    }

    /// A figure with a goal.
    pub fn to_reach(
        self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: Goal,
    ) -> Measurement {
        let mut figure = self.of(what, value, unit);
        figure.row.goal = Some(goal);
        figure
    }
}

/// One figure of all runs.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    #[serde(flatten)]
    pub row: ResultRow,
    /// The values in the order of the runs.
    pub values: Vec<f64>,
    pub median: f64,
    /// The ratio to bare requests of the machine in the same runs. Only for rates, and for latencies at the same rate.
    pub of_posts: Option<f64>,
    /// The ratio to bare messages, like `of_posts`.
    pub of_relays: Option<f64>,
}

impl Summary {
    /// The minimum and the maximum.
    pub fn range(&self) -> (f64, f64) {
        let fold = |with: fn(f64, f64) -> f64, from| self.values.iter().copied().fold(from, with);
        (
            fold(f64::min, f64::INFINITY),
            fold(f64::max, f64::NEG_INFINITY),
        )
    }
}

/// The name of the rate of bare requests.
pub const POSTS: &str = "bare POST loop";
/// The name of the rate of bare messages.
pub const RELAYS: &str = "publish and consume";
/// The name of a workload's rate.
pub const DELIVERED: &str = "delivered";
/// The unit of rates. Figures in it are compared with [`POSTS`] and [`RELAYS`].
pub const RATE: &str = "/s";
/// The unit of latencies.
pub const MILLIS: &str = "ms";
/// The percentiles of a latency that are compared with those of bare requests and messages.
const PERCENTILES: [&str; 2] = ["p50", "p99"];

/// The name of the machine's figure to which this row is compared.
fn bare(row: &ResultRow, of: &str) -> Option<String> {
    match (row.unit, &*row.what) {
        _ if row.mode.is_none() => None,
        (RATE, _) => Some(of.to_owned()),
        (MILLIS, what) if PERCENTILES.contains(&what) => Some(bare_latency(of, what)),
        _ => None,
    }
}

/// The name of the latency of bare requests or messages.
pub fn bare_latency(of: &str, percentile: &str) -> String {
    format!("{of}, {percentile}")
}

/// Summarizes the figures of all runs, in the order of their first appearance.
pub fn summarize(figures: Vec<Measurement>) -> Vec<Summary> {
    let mut order = Vec::new();
    let mut values: BTreeMap<(&str, &str, String), Vec<f64>> = BTreeMap::new();
    for Measurement { row, value } in figures {
        let key = (row.scenario, name_of(row.mode), row.what.clone());
        let all = values.entry(key).or_default();
        if all.is_empty() {
            order.push(row);
        }
        all.push(value);
    }
    let raw = |row: &ResultRow, of: &str| {
        let all = values.get(&("raw", "machine", bare(row, of)?))?;
        Some(median(all))
    };
    order
        .into_iter()
        .map(|row| {
            let key = (row.scenario, name_of(row.mode), row.what.clone());
            let values = values.get(&key).cloned().unwrap_or_default();
            let median = median(&values);
            let part = |of: &str| raw(&row, of).map(|raw| median / raw);
            Summary {
                of_posts: part(POSTS),
                of_relays: part(RELAYS),
                row,
                values,
                median,
            }
        })
        .collect()
}

/// The middle value, or the mean of the two middle values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        (_, middle) => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_compared_with_what_the_machine_did_in_the_same_runs() {
        let machine = Labels::MACHINE;
        let a = Labels {
            scenario: "a",
            mode: Some(Mode::Standalone),
        };
        let runs = [
            (40_000.0, 9_000.0),
            (20_000.0, 10_000.0),
            (30_000.0, 30_000.0),
        ];
        let figures = runs.iter().flat_map(|(posts, rate)| {
            [
                machine.of(POSTS, *posts, RATE),
                a.to_reach("delivered", *rate, RATE, Goal::AtLeast(9_500.0)),
            ]
        });
        let summaries = summarize(figures.collect());
        let rate = &summaries[1];
        assert_eq!((rate.median, rate.range()), (10_000.0, (9_000.0, 30_000.0)));
        assert_eq!(rate.of_posts, Some(10_000.0 / 30_000.0));
        assert_eq!(rate.of_relays, None);
        assert!(rate.row.goal.unwrap().is_reached(rate.median));
        assert_eq!(summaries[0].of_posts, None);
    }

    #[test]
    fn a_latency_is_compared_with_the_same_percentile_of_the_baseline() {
        let machine = Labels::MACHINE;
        let c = Labels {
            scenario: "c",
            mode: Some(Mode::Distributed),
        };
        let summaries = summarize(vec![
            machine.of(bare_latency(POSTS, "p50"), 0.5, MILLIS),
            machine.of(bare_latency(RELAYS, "p50"), 2.0, MILLIS),
            c.of("p50", 3.0, MILLIS),
            c.of("p99", 9.0, MILLIS),
            c.of("slowest", 9.0, MILLIS),
        ]);
        let compared: Vec<_> = summaries
            .iter()
            .map(|summary| (summary.of_posts, summary.of_relays))
            .collect();
        let none = (None, None);
        assert_eq!(compared, [none, none, (Some(6.0), Some(1.5)), none, none]);
    }
}
