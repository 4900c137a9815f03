//! The tail of the log: what was recorded after a place, in an order that no late commit breaks.
//!
//! A row of `attempts` and of `stream_changes` has the number of the transaction that wrote it. In PostgreSQL a transaction
//! with a lower number may commit after one with a higher number, so a number alone is no safe place. A [`LogSnapshot`]
//! says which transactions were visible at a moment. Between two snapshots lie the rows of the transactions that ended in
//! between, whatever their numbers. In SQLite transactions commit in the order of their numbers
//! (`docs/decisions/0018-tail-of-the-log.md`).

use std::collections::HashSet;
use std::sync::Arc;

use hookline_core::cursor::Cursor;
use hookline_core::event_type::EventType;
use hookline_core::ids::{DeliveryId, EventId, KeyId, OrganizationId, SubscriptionId, WorkflowId};
use hookline_core::timestamp::Timestamp;
use uuid::Uuid;

use crate::attempts::LoggedAttempt;
use crate::deliveries::DeliveryStatus;
use crate::error::StoreError;
use crate::store::{Store, run};

pub(crate) mod postgres;
pub(crate) mod removals;
pub(crate) mod rows;
pub(crate) mod sql;
pub(crate) mod sqlite;

/// The place of a row in the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    /// The number of the transaction that wrote the row.
    pub recorded_in: i64,
    pub id: Uuid,
}

impl LogPlace {
    /// The place before all rows of a transaction.
    pub fn before(transaction: i64) -> Self {
        Self {
            recorded_in: transaction,
            id: Uuid::nil(),
        }
    }

    /// A cursor whose time is the number of the transaction.
    pub fn cursor(self) -> Cursor {
        Cursor {
            created_at: Timestamp::from_unix_micros(self.recorded_in),
            id: self.id,
        }
    }

    pub fn of_cursor(cursor: Cursor) -> Self {
        Self {
            recorded_in: cursor.created_at.unix_micros(),
            id: cursor.id,
        }
    }
}

/// The transactions that have ended at a moment. A later snapshot sees all that an earlier one sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSnapshot {
    /// Every transaction from here on has not ended.
    pub(crate) next: i64,
    /// Those before `next` that have not ended, ascending.
    pub(crate) running: Vec<i64>,
}

impl LogSnapshot {
    pub fn sees(&self, transaction: i64) -> bool {
        transaction < self.next && self.running.binary_search(&transaction).is_err()
    }

    /// Whether rows up to a place can exist. They cannot where the database has lost its last commits.
    pub fn reaches(&self, place: LogPlace) -> bool {
        place.recorded_in <= self.next
    }

    /// The place before all rows that this snapshot does not see.
    pub fn horizon(&self) -> LogPlace {
        LogPlace::before(self.running.first().map_or(self.next, |first| *first))
    }

    /// A stream that has had all rows up to `place` misses nothing after it, although rows with lower places may follow:
    /// they are after the horizon.
    pub fn safe(&self, place: LogPlace) -> LogPlace {
        place.min(self.horizon())
    }

    /// All rows after a place that this snapshot sees.
    pub fn after(self: &Arc<Self>, place: LogPlace) -> TailSpan {
        TailSpan {
            ranges: vec![(place.recorded_in, self.next)],
            is_long: true,
            after: place,
            seen_by: Arc::clone(self),
        }
    }

    /// The rows that this snapshot sees and an earlier one does not.
    pub fn since(self: &Arc<Self>, earlier: &Self) -> TailSpan {
        let ended = earlier.running.iter().filter(|late| self.sees(**late));
        let mut ranges: Vec<_> = ended.map(|late| (*late, late + 1)).collect();
        if earlier.next < self.next {
            ranges.push((earlier.next, self.next));
        }
        TailSpan {
            after: LogPlace::before(0),
            ranges,
            is_long: false,
            seen_by: Arc::clone(self),
        }
    }
}

/// The rows that a snapshot sees of some ranges of transactions, after a place.
#[derive(Debug, Clone)]
pub struct TailSpan {
    /// The first transaction, and the end, exclusive.
    pub(crate) ranges: Vec<(i64, i64)>,
    /// It is all of the log after the place, and may be long.
    pub(crate) is_long: bool,
    pub(crate) after: LogPlace,
    pub(crate) seen_by: Arc<LogSnapshot>,
}

impl TailSpan {
    /// Whether no row can be in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.iter().all(|(first, end)| first >= end)
    }

    /// The rest of it after a place.
    #[must_use]
    pub fn rest_after(self, place: LogPlace) -> Self {
        Self {
            after: place,
            ..self
        }
    }

    /// The ranges without what is before `after`.
    pub(crate) fn open_ranges(&self) -> impl Iterator<Item = (i64, i64)> {
        let ranges = self.ranges.iter();
        let ranges = ranges.map(|(first, end)| ((*first).max(self.after.recorded_in), *end));
        ranges.filter(|(first, end)| first < end)
    }
}

/// Some rows of a span, in the order of their places.
#[derive(Debug)]
pub struct TailPage {
    pub rows: Vec<TailRow>,
    /// Where the page ended early.
    pub end: Option<LogPlace>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRow {
    pub organization: OrganizationId,
    pub place: LogPlace,
    pub entry: TailEntry,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailEntry {
    /// Without the response's body.
    Attempt {
        attempt: Box<LoggedAttempt>,
        workflow: Option<WorkflowId>,
    },
    /// A delivery that ended without an attempt.
    DeliveryEnd(DeliveryEnd),
    Subscription(SubscriptionEvent),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryEnd {
    pub delivery: DeliveryId,
    pub subscription: SubscriptionId,
    pub event: EventId,
    pub event_type: EventType,
    pub workflow: Option<WorkflowId>,
    pub status: DeliveryStatus,
    /// Attempts made.
    pub attempts: u32,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionEvent {
    pub subscription: SubscriptionId,
    pub change: SubscriptionChangeKind,
    /// Why the system disabled it.
    pub disabled_reason: Option<String>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum SubscriptionChangeKind {
    Created,
    Changed,
    /// By its owner or by the system.
    Disabled,
    Deleted,
}

impl SubscriptionChangeKind {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Rows that retention has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedRows {
    /// Of whole days: those before the asked place on its own day count, too.
    pub count: u64,
    pub last: LogPlace,
}

impl Store {
    /// What is visible now.
    pub async fn log_snapshot(&self) -> Result<LogSnapshot, StoreError> {
        run!(self, read, |conn, q: crate::tail| q::snapshot(conn))
    }

    /// At most `limit` rows of these organizations.
    pub async fn tail(
        &self,
        organizations: Arc<[OrganizationId]>,
        span: TailSpan,
        limit: usize,
    ) -> Result<TailPage, StoreError> {
        run!(self, read, |conn, q: sql| q::page(
            conn,
            &organizations,
            &span,
            limit
        ))
    }

    /// The rows of an organization after a place that retention has removed; none where it removed none.
    pub async fn removed_after(
        &self,
        organization: OrganizationId,
        place: LogPlace,
    ) -> Result<Option<RemovedRows>, StoreError> {
        run!(self, read, |conn, q: removals| q::after(
            conn,
            &organization,
            place
        ))
    }

    /// Those of the keys that are neither revoked nor expired.
    pub async fn valid_keys(
        &self,
        keys: Vec<KeyId>,
        now: Timestamp,
    ) -> Result<HashSet<KeyId>, StoreError> {
        run!(self, read, |conn, q: crate::api_keys::sql| q::valid(
            conn, &keys, now
        ))
    }

    /// Notes which attempts of days before `day` retention is about to delete. Answers with the number of rows that it
    /// wrote; 0 means that there are no more.
    pub async fn note_removals(&self, day: i64) -> Result<usize, StoreError> {
        run!(self, write, |conn, q: removals| q::note_attempts(conn, day))
    }

    /// Deletes some rows of `stream_changes` of days before `day`, and of old removals; answers likewise.
    pub async fn forget_changes(&self, day: i64) -> Result<usize, StoreError> {
        run!(self, write, |conn, q: removals| q::forget_changes(
            conn, day
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(next: i64, running: &[i64]) -> Arc<LogSnapshot> {
        Arc::new(LogSnapshot {
            next,
            running: running.to_vec(),
        })
    }

    #[test]
    fn between_two_snapshots_lie_the_transactions_that_ended_in_between() {
        let (before, after) = (snapshot(10, &[5, 7]), snapshot(14, &[7, 12]));
        let span = after.since(&before);
        assert_eq!(span.ranges, [(5, 6), (10, 14)]);
        let seen: Vec<i64> = (0..20).filter(|id| after.sees(*id)).collect();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 13]);
        assert_eq!(before.horizon(), LogPlace::before(5));
        assert_eq!(after.horizon(), LogPlace::before(7));
        assert!(after.since(&after).is_empty());
    }

    #[test]
    fn a_place_is_safe_before_the_first_transaction_that_runs() {
        let place = LogPlace {
            recorded_in: 9,
            id: Uuid::max(),
        };
        assert_eq!(snapshot(10, &[]).safe(place), place);
        assert_eq!(snapshot(10, &[7]).safe(place), LogPlace::before(7));
    }

    #[test]
    fn the_rest_of_a_span_begins_at_its_place() {
        let place = LogPlace::before(8);
        let span = snapshot(14, &[]).since(&snapshot(10, &[5]));
        let open: Vec<_> = span.rest_after(place).open_ranges().collect();
        assert_eq!(open, [(10, 14)]);
        let open: Vec<_> = snapshot(14, &[]).after(place).open_ranges().collect();
        assert_eq!(open, [(8, 14)]);
    }
}
