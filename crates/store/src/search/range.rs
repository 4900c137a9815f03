//! The rows that a search reads, and their order.

use diesel::sql_types::BigInt;
use hookline_core::cursor::Cursor;
use hookline_core::timestamp::Timestamp;
use uuid::Uuid;

use crate::backend::backends;
use crate::columns::{UuidColumn, UuidKey};
use crate::paging::RowPosition;
use crate::search::statement::RawQuery;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchOrder {
    NewestFirst,
    OldestFirst,
}

/// The rows between two places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SearchRange {
    pub(crate) order: SearchOrder,
    /// Exclusive.
    pub(crate) begin: RowPosition,
    /// Inclusive for the oldest row, exclusive for the newest.
    pub(crate) end: i64,
}

impl SearchRange {
    /// From `since` on and before `until`.
    pub(crate) fn of(since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        let newest = match until {
            // No id is lower, so the rows of this time are excluded.
            Some(until) => (until.unix_micros(), UuidKey(Uuid::nil())),
            None => (i64::MAX, UuidKey(Uuid::max())),
        };
        Self {
            order: SearchOrder::NewestFirst,
            begin: newest,
            end: since.map_or(i64::MIN, Timestamp::unix_micros),
        }
    }

    /// The same rows from the oldest on.
    pub(crate) fn oldest_first(since: Option<Timestamp>, until: Timestamp) -> Self {
        Self {
            order: SearchOrder::OldestFirst,
            // No row has this id, so those of this time are included.
            begin: (
                since.map_or(i64::MIN, Timestamp::unix_micros),
                UuidKey(Uuid::nil()),
            ),
            end: until.unix_micros(),
        }
    }

    pub(super) fn after(self, place: Cursor) -> Self {
        self.behind((place.created_at.unix_micros(), UuidKey(place.id)))
    }

    pub(crate) fn behind(self, place: RowPosition) -> Self {
        let begin = match self.order {
            SearchOrder::NewestFirst => self.begin.min(place),
            SearchOrder::OldestFirst => self.begin.max(place),
        };
        Self { begin, ..self }
    }
}

backends!(
    use backend::Db;

    /// Writes the condition and the order of the rows, over the table `t` and these columns. The first condition lets the
    /// index search begin at the place.
    pub(crate) fn write(out: &mut RawQuery<'_, Db>, range: SearchRange, (at, id): (&str, &str)) {
        let (behind, until, direction) = match range.order {
            SearchOrder::NewestFirst => ("<", ">=", "DESC"),
            SearchOrder::OldestFirst => (">", "<", "ASC"),
        };
        let (begin, begin_id) = range.begin;
        out.sql(format!(" AND t.{at} {behind}= "))
            .bind::<BigInt, _>(begin);
        out.sql(format!(" AND (t.{at} {behind} "))
            .bind::<BigInt, _>(begin);
        out.sql(format!(" OR t.{id} {behind} "))
            .bind::<UuidColumn, _>(begin_id);
        out.sql(format!(") AND t.{at} {until} "))
            .bind::<BigInt, _>(range.end);
        out.sql(format!(" ORDER BY t.{at} {direction}, t.{id} {direction}"));
    }
);
