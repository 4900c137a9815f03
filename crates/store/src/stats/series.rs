//! Series of counts.

use std::collections::BTreeMap;

use hookline_core::histogram::Histogram;
use hookline_core::ids::SubscriptionId;
use hookline_core::outcome::FailureKind;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::rollup::cell::{Cell, CodeClass, StatsOutcome};
use crate::rows::corrupt;
use crate::stats::StatsGroupBy;

/// Counts by the group to which they belong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatsGroup {
    /// The request has no group.
    All,
    Subscription(SubscriptionId),
    EventType(String),
    Outcome(StatsOutcome),
    CodeClass(CodeClass),
    /// The name of the kind. None: no error.
    ErrorKind(Option<&'static str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsSeries {
    pub group: StatsGroup,
    pub total: StatsCounts,
    /// By the begin of the step. Steps without a count are left out.
    pub points: BTreeMap<Timestamp, StatsCounts>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsCounts {
    pub attempts: u64,
    pub failed_attempts: u64,
    pub delivered: u64,
    pub exhausted: u64,
    pub skipped: u64,
    pub cancelled: u64,
    /// Of attempts.
    pub durations: Histogram,
    /// Of deliveries in their first run, from the event to their end as delivered.
    pub latencies: Histogram,
}

impl StatsCounts {
    fn add(&mut self, cell: Cell, count: u64) {
        if let Some(duration) = cell.duration {
            self.attempts += count;
            self.durations.add(duration, count);
            if cell.error.is_some() {
                self.failed_attempts += count;
            }
        }
        if let Some(latency) = cell.latency {
            self.latencies.add(latency, count);
        }
        match cell.outcome {
            StatsOutcome::Delivered => self.delivered += count,
            StatsOutcome::Retried => {}
            StatsOutcome::Exhausted => self.exhausted += count,
            StatsOutcome::Skipped => self.skipped += count,
            StatsOutcome::Cancelled => self.cancelled += count,
        }
    }
}

/// A sum over rows of the roll-up.
#[derive(Debug, Clone)]
pub(crate) struct RollupSum {
    /// The begin of the step (microseconds).
    pub(crate) step: i64,
    /// The subscription or the event type, if the query groups by it.
    pub(crate) group: String,
    pub(crate) cell: i32,
    pub(crate) count: i64,
}

/// In the order of groups.
pub(crate) fn series_of(
    sums: Vec<RollupSum>,
    group_by: Option<StatsGroupBy>,
) -> Result<Vec<StatsSeries>, StoreError> {
    let mut series: BTreeMap<StatsGroup, StatsSeries> = BTreeMap::new();
    if group_by.is_none() {
        series.insert(StatsGroup::All, StatsSeries::empty(StatsGroup::All));
    }
    for sum in sums {
        let cell = Cell::unpack(sum.cell)?;
        let count = sum.count.unsigned_abs();
        let group = group_of(group_by, sum.group, cell)?;
        let one = series
            .entry(group)
            .or_insert_with_key(|group| StatsSeries::empty(group.clone()));
        one.total.add(cell, count);
        let at = Timestamp::from_unix_micros(sum.step);
        one.points.entry(at).or_default().add(cell, count);
    }
    Ok(series.into_values().collect())
}

impl StatsSeries {
    fn empty(group: StatsGroup) -> Self {
        Self {
            group,
            total: StatsCounts::default(),
            points: BTreeMap::new(),
        }
    }
}

fn group_of(
    group_by: Option<StatsGroupBy>,
    group: String,
    cell: Cell,
) -> Result<StatsGroup, StoreError> {
    Ok(match group_by {
        None => StatsGroup::All,
        Some(StatsGroupBy::SubscriptionId) => {
            let id = group
                .parse()
                .map_err(|why| corrupt("subscription_id", why))?;
            StatsGroup::Subscription(SubscriptionId(id))
        }
        Some(StatsGroupBy::EventType) => StatsGroup::EventType(group),
        Some(StatsGroupBy::Outcome) => StatsGroup::Outcome(cell.outcome),
        Some(StatsGroupBy::CodeClass) => StatsGroup::CodeClass(cell.code_class),
        Some(StatsGroupBy::ErrorKind) => StatsGroup::ErrorKind(cell.error.map(FailureKind::as_str)),
    })
}

#[cfg(test)]
mod tests {
    use hookline_core::histogram::Bucket;

    use super::*;

    fn sum(step: i64, cell: Cell, count: i64) -> RollupSum {
        RollupSum {
            step,
            group: String::new(),
            cell: cell.pack(),
            count,
        }
    }

    fn attempt(outcome: StatsOutcome) -> Cell {
        Cell {
            duration: Some(Bucket::of_millis(3)),
            error: Some(FailureKind::Timeout).filter(|_| outcome != StatsOutcome::Delivered),
            ..Cell::without_attempt(outcome)
        }
    }

    #[test]
    fn an_attempt_and_the_end_of_its_delivery_count_apart() {
        let sums = vec![
            sum(0, attempt(StatsOutcome::Delivered), 1),
            sum(0, attempt(StatsOutcome::Retried), 10),
            sum(60, attempt(StatsOutcome::Exhausted), 100),
            sum(60, Cell::without_attempt(StatsOutcome::Exhausted), 1_000),
            sum(60, Cell::without_attempt(StatsOutcome::Skipped), 10_000),
        ];
        let series = series_of(sums.clone(), None).unwrap();
        let [all] = &series[..] else {
            panic!("{series:?}")
        };
        let total = &all.total;
        assert_eq!((total.attempts, total.failed_attempts), (111, 110));
        assert_eq!((total.delivered, total.exhausted), (1, 1_100));
        assert_eq!((total.skipped, total.cancelled), (10_000, 0));
        assert_eq!(all.points.len(), 2);
        let by_outcome = series_of(sums, Some(StatsGroupBy::Outcome)).unwrap();
        assert_eq!(by_outcome.len(), 4);
    }

    #[test]
    fn only_a_series_without_a_group_may_be_empty() {
        assert_eq!(series_of(Vec::new(), None).unwrap().len(), 1);
        let grouped = series_of(Vec::new(), Some(StatsGroupBy::CodeClass));
        assert!(grouped.unwrap().is_empty());
    }
}
