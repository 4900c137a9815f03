//! The roll-up: counts of attempts and of ended deliveries by minute, and by hour after a day.
//!
//! The transaction that logs an attempt or ends a delivery counts it here, so the counts are those of the log. A count is
//! added to two rows: one of its subscription, and one of all subscriptions of the organization.
//!
//! [`fold`](postgres::fold) moves rows of minutes into rows of hours. A writer that adds to a minute meanwhile makes a new
//! row of it, and the next fold takes that one.

use std::collections::BTreeMap;

use hookline_core::timestamp::Timestamp;

pub(crate) mod cell;
pub(crate) mod postgres;
pub(crate) mod sqlite;

/// The subscription of rows that count for the whole organization. Ids begin at 1.
pub(crate) const WHOLE_ORGANIZATION: i64 = 0;

pub(crate) const MINUTE: i64 = 60_000_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;

/// The begin of the minute of a time (microseconds).
pub(crate) fn minute_of(micros: i64) -> i64 {
    micros - micros.rem_euclid(MINUTE)
}

/// The latest time before which whole hours have ended.
pub(crate) fn hours_before(time: Timestamp) -> i64 {
    let micros = time.unix_micros();
    micros - micros.rem_euclid(HOUR)
}

/// The key of a row, except its width and shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TallyKey<'a> {
    pub(crate) organization_id: &'a str,
    pub(crate) subscription_id: i64,
    /// The begin of a minute.
    pub(crate) at: i64,
    pub(crate) event_type: &'a str,
    pub(crate) cell: i32,
}

/// Counts of one transaction, in the order of their rows, so that two transactions never deadlock.
#[derive(Debug, Default)]
pub(crate) struct Tallies<'a>(BTreeMap<TallyKey<'a>, i64>);

impl<'a> Tallies<'a> {
    /// Counts one for the subscription, and one for its organization.
    pub(crate) fn count(&mut self, key: TallyKey<'a>) {
        let of_organization = TallyKey {
            subscription_id: WHOLE_ORGANIZATION,
            ..key
        };
        for key in [of_organization, key] {
            *self.0.entry(key).or_default() += 1;
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (&TallyKey<'a>, i64)> {
        self.0.iter().map(|(key, count)| (key, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_stands_for_its_subscription_and_for_its_organization() {
        let key = |subscription_id| TallyKey {
            organization_id: "a",
            subscription_id,
            at: 0,
            event_type: "workflow.failed",
            cell: 0,
        };
        let mut tallies = Tallies::default();
        for subscription in [1, 1, 2] {
            tallies.count(key(subscription));
        }
        let rows: Vec<(i64, i64)> = tallies
            .rows()
            .map(|(key, count)| (key.subscription_id, count))
            .collect();
        assert_eq!(rows, [(0, 3), (1, 2), (2, 1)]);
    }

    #[test]
    fn a_minute_begins_before_its_times() {
        assert_eq!(minute_of(MINUTE), MINUTE);
        assert_eq!(minute_of(2 * MINUTE - 1), MINUTE);
        assert_eq!(minute_of(-1), -MINUTE);
    }
}
