//! Searches for the rows of a page, newest first; and walks over rows for replays, oldest first.
//!
//! A list is the merge of a few streams. A stream is the rows with one key, in the order of an index. A step reads the same
//! number of rows of each stream and knows which of them match the rest of the filter. The list is complete down to the
//! place where the first stream stopped; the next step goes on there. A step is one short statement with a permit for a
//! connection of its own, so a search through many rows blocks no other caller.

use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};
use hookline_core::cursor::Cursor;

use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::paging::{PageStart, RowPosition, cursor};

pub(crate) mod conditions;
pub(crate) mod excerpts;
pub(crate) mod postgres;
pub(crate) mod range;
pub(crate) mod sources;
pub(crate) mod sqlite;
pub(crate) mod statement;

pub(crate) use range::{SearchOrder, SearchRange};
use statement::RawQuery;

/// The keys of the streams of a list.
#[derive(Debug, Clone)]
pub(crate) enum StreamKeys {
    /// One stream.
    One,
    /// Streams of two names, such as an event type and a status.
    Names(Vec<(&'static str, &'static str)>),
    /// A stream for each delivery.
    Deliveries(Vec<DeliverySpan>),
}

impl StreamKeys {
    fn count(&self) -> usize {
        match self {
            StreamKeys::One => 1,
            StreamKeys::Names(names) => names.len(),
            StreamKeys::Deliveries(spans) => spans.len(),
        }
    }
}

/// A delivery, and the time of its attempts.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub(crate) struct DeliverySpan {
    #[diesel(sql_type = UuidColumn)]
    pub(crate) id: UuidKey,
    #[diesel(sql_type = BigInt)]
    pub(crate) since: i64,
    /// The end of its last attempt; the end of time while it is pending.
    #[diesel(sql_type = BigInt)]
    pub(crate) until: i64,
}

/// The key of a stream within a statement.
#[derive(Clone, Copy)]
pub(crate) enum StreamKey {
    /// The columns of the table `k`.
    Columns,
    Names(&'static str, &'static str),
    Delivery(DeliverySpan),
}

/// A list, and how its rows are found.
pub(crate) trait SearchPlan<DB: Backend> {
    const TABLE: &'static str;
    /// The columns that the list is sorted by.
    const ORDER: (&'static str, &'static str);

    fn keys(&self) -> &StreamKeys;

    /// Writes the condition that an index answers, over the table `t`.
    fn write_source<'a>(&'a self, out: &mut RawQuery<'a, DB>, key: StreamKey);

    /// Writes the rest of the filter, over the table `t`.
    fn write_rest<'a>(&'a self, out: &mut RawQuery<'a, DB>);
}

/// A row that a step looked at: it matches, or it is the last one of its stream's share.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub(crate) struct Candidate {
    #[diesel(sql_type = BigInt)]
    at: i64,
    #[diesel(sql_type = UuidColumn)]
    id: UuidKey,
    /// SQLite's rowid, which finds a row without an index.
    #[diesel(sql_type = BigInt)]
    place: i64,
    #[diesel(sql_type = Bool)]
    matches: bool,
    /// Its number in the stream, from 1.
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// A row that was found, in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FoundRow {
    pub(crate) at: i64,
    pub(crate) id: UuidKey,
    pub(crate) place: i64,
}

impl FoundRow {
    pub(crate) fn position(self) -> RowPosition {
        (self.at, self.id)
    }
}

/// The result of a step.
pub(crate) struct SearchStep {
    pub(crate) rows: Vec<FoundRow>,
    /// The place up to which the rows were searched; none at their end.
    pub(crate) end: Option<RowPosition>,
}

impl SearchStep {
    /// Merges the streams, of each of which at most `share` rows were read.
    pub(crate) fn merge(candidates: Vec<Candidate>, share: i64, order: SearchOrder) -> Self {
        let row = |one: &Candidate| FoundRow {
            at: one.at,
            id: one.id,
            place: one.place,
        };
        let last = candidates.iter().filter(|one| one.number == share);
        let ends = last.map(|one| row(one).position());
        let end = match order {
            SearchOrder::NewestFirst => ends.max(),
            SearchOrder::OldestFirst => ends.min(),
        };
        let is_searched = |row: &FoundRow| {
            end.is_none_or(|end| match order {
                SearchOrder::NewestFirst => row.position() >= end,
                SearchOrder::OldestFirst => row.position() <= end,
            })
        };
        let matching = candidates.iter().filter(|one| one.matches).map(row);
        let mut rows: Vec<FoundRow> = matching.filter(is_searched).collect();
        rows.sort_unstable();
        if order == SearchOrder::NewestFirst {
            rows.reverse();
        }
        // A row may change its stream while the streams are read.
        rows.dedup();
        Self { rows, end }
    }
}

/// The rows that a search may look at.
const BUDGET: i64 = 50_000;

/// The rows that a step may look at, if more rows than needed have to be read.
const STEP: i64 = 8_192;

/// The fewest and the most rows of a stream in one step. Shares are powers of two, so there are few statements.
const SHARES: (i64, i64) = (64, 16_384);

fn share_of(rows: i64) -> i64 {
    let rows = rows.clamp(SHARES.0, SHARES.1).unsigned_abs();
    i64::try_from(rows.next_power_of_two()).unwrap_or(SHARES.1)
}

/// Searches for `limit` rows. The cursor is the place where the search stopped early.
pub(crate) async fn search(
    start: PageStart,
    limit: u32,
    range: SearchRange,
    keys: &StreamKeys,
    mut step: impl AsyncFnMut(SearchRange, i64) -> Result<SearchStep, StoreError>,
) -> Result<(Vec<FoundRow>, Option<Cursor>), StoreError> {
    let (mut range, skip) = match start {
        PageStart::Offset(offset) => (range, offset),
        PageStart::Cursor(cursor) => (range.after(cursor), 0),
    };
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let wanted = skip.saturating_add(limit);
    let streams = i64::try_from(keys.count()).unwrap_or(i64::MAX).max(1);
    let mut share = share_of(i64::try_from(wanted).unwrap_or(i64::MAX));
    let (mut rows, mut looked_at) = (Vec::new(), 0);
    let searched = loop {
        let found = step(range, share).await?;
        rows.extend(found.rows);
        looked_at += streams.saturating_mul(share);
        let Some(end) = found.end.filter(|_| rows.len() < wanted) else {
            break None;
        };
        if looked_at >= BUDGET {
            break Some(cursor(end));
        }
        range = range.behind(end);
        share = share.max(share_of((share * 4).min(STEP / streams)));
    };
    Ok((rows.into_iter().skip(skip).take(limit).collect(), searched))
}
