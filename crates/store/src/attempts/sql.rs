//! Queries of the log of attempts, newest first.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::dsl::{exists, sql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Text};
use hookline_core::event_type::EventType;
use hookline_core::ids::EventKey;

use crate::attempts::rows::AttemptRow;
use crate::attempts::{AttemptStatus, Excerpt, LogEntry, LogQuery};
use crate::backend::backends;
use crate::columns::UuidKey;
use crate::deliveries::due::EventPayload;
use crate::error::StoreError;
use crate::paging::{RowPosition, StepBounds, StepResult, Stretch, WINDOW, stretched};
use crate::rows::corrupt;
use crate::schema::{attempts, events, subscriptions};

/// The beginning of every event that is read. SQL counts from 1.
const BEGINNING: &str = "substr(events.body, 1, 256)";

/// An attempt; its event's id, key, length and beginning.
pub(crate) type LogRow = (AttemptRow, String, UuidKey, i64, Vec<u8>);

/// The filters that the index does not answer.
fn rest_of(query: &LogQuery) -> (Option<EventType>, Option<AttemptStatus>) {
    let failed = query.status == Some(AttemptStatus::Failed);
    let by_type = query.subscription.is_none() && !failed;
    (
        query.event_type.filter(|_| !by_type),
        query.status.filter(|_| !failed),
    )
}

/// Drops a cut last character.
fn whole_characters(beginning: &[u8]) -> &str {
    match std::str::from_utf8(beginning) {
        Ok(text) => text,
        Err(cut) => std::str::from_utf8(&beginning[..cut.valid_up_to()]).unwrap_or_default(),
    }
}

/// Narrows a query over attempts to the filters that an index answers: an organization or a subscription, all attempts
/// or the failed ones; or an organization and a type.
macro_rules! indexed {
    ($rows:expr, $query:expr, $stretch:expr) => {{
        let query: &LogQuery = $query;
        let mut rows = $rows.into_boxed();
        rows = match query.subscription {
            // `may_ask` has checked its organization.
            Some(subscription) => rows.filter(attempts::subscription_id.eq(subscription.0)),
            None => rows.filter(attempts::organization_id.eq(query.organization.as_str())),
        };
        if query.status == Some(AttemptStatus::Failed) {
            // The same text as in the partial indexes: SQLite does not use these for a bound value.
            rows = rows.filter(sql::<Bool>("attempts.status = 'failed'"));
        } else if let (None, Some(event_type)) = (query.subscription, query.event_type) {
            rows = rows.filter(attempts::event_type.eq(event_type.as_str()));
        }
        stretched!(rows, attempts, $stretch)
    }};
}

/// Narrows it to the other filters. `|| ''` keeps the planner from an index by type, which would lead through the
/// attempts of other subscriptions.
macro_rules! filtered {
    ($rows:expr, $rest:expr) => {{
        let (event_type, status) = $rest;
        let mut rows = $rows;
        if let Some(event_type) = event_type {
            let of_type = sql::<Bool>("attempts.event_type || '' = ");
            rows = rows.filter(of_type.bind::<Text, _>(event_type.as_str()));
        }
        if let Some(status) = status {
            rows = rows.filter(attempts::status.eq(status.as_str()));
        }
        rows
    }};
}

backends!(
    with {
        due_deliveries: crate::deliveries::due,
    }

    use backend::Conn;

    /// Whether the subscription, also a deleted one, belongs to the organization of the query.
    fn may_ask(conn: &mut Conn, query: &LogQuery) -> Result<bool, StoreError> {
        let Some(subscription) = query.subscription else {
            return Ok(true);
        };
        let owned = subscriptions::table
            .filter(subscriptions::id.eq(subscription.0))
            .filter(subscriptions::organization_id.eq(query.organization.as_str()));
        Ok(diesel::select(exists(owned)).get_result(conn)?)
    }

    /// The place of the `n`th attempt of a stretch, from 1, read from the index alone.
    fn nth(
        conn: &mut Conn,
        query: &LogQuery,
        stretch: Stretch,
        n: i64,
    ) -> Result<Option<RowPosition>, StoreError> {
        Ok(indexed!(attempts::table, query, stretch)
            .order((attempts::created_at.desc(), attempts::id.desc()))
            .offset(n - 1)
            .limit(1)
            .select((attempts::created_at, attempts::id))
            .get_result(conn)
            .optional()?)
    }

    /// A step of a search, newest first.
    pub(crate) fn page(
        conn: &mut Conn,
        query: &LogQuery,
        reach: StepBounds,
    ) -> Result<StepResult<LogRow>, StoreError> {
        if !may_ask(conn, query)? {
            return Ok(StepResult::nothing());
        }
        let mut stretch = Stretch::of(reach.after, None, None);
        let (mut skip, mut passed, mut end) = (reach.skip, 0, None);
        let rest = rest_of(query);
        if rest != (None, None) {
            end = nth(conn, query, stretch, WINDOW)?;
            stretch = stretch.down_to(end);
            if skip > 0 && end.is_some() {
                let matching: i64 = filtered!(indexed!(attempts::table, query, stretch), rest)
                    .count()
                    .get_result(conn)?;
                passed = skip.min(matching.unsigned_abs());
            }
        } else if skip > 0 {
            let last = nth(
                conn,
                query,
                stretch,
                i64::try_from(skip).unwrap_or(i64::MAX),
            )?;
            let Some(last) = last else {
                return Ok(StepResult::nothing());
            };
            stretch = stretch.behind(last);
            skip = 0;
        }
        let joined = attempts::table.inner_join(events::table);
        let rows: Vec<LogRow> = filtered!(indexed!(joined, query, stretch), rest)
            .order((attempts::created_at.desc(), attempts::id.desc()))
            .offset(i64::try_from(skip).unwrap_or(i64::MAX))
            .limit(i64::from(reach.limit))
            .select((
                AttemptRow::as_select(),
                events::event_id,
                events::key,
                sql::<BigInt>("CAST(length(events.body) AS BIGINT)"),
                sql::<Binary>(BEGINNING),
            ))
            .load(conn)?;
        Ok(StepResult { rows, passed, end })
    }

    /// Adds the events to the attempts, whole ones up to `room` bytes in all.
    pub(crate) fn entries(
        conn: &mut Conn,
        rows: Vec<LogRow>,
        room: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let bodies = whole_bodies(conn, &rows, room)?;
        let entry = |(row, event_id, key, _, beginning): LogRow| {
            let request_body = match bodies.get(&key) {
                Some(text) => Excerpt {
                    text: Arc::clone(text),
                    is_whole: true,
                },
                None => Excerpt {
                    text: whole_characters(&beginning).into(),
                    is_whole: false,
                },
            };
            Ok(LogEntry {
                attempt: row.into_attempt(event_id)?,
                request_body,
            })
        };
        rows.into_iter().map(entry).collect()
    }

    /// The events that fit into `room`, in order. Many attempts may have one event.
    fn whole_bodies(
        conn: &mut Conn,
        rows: &[LogRow],
        mut room: usize,
    ) -> Result<HashMap<UuidKey, Arc<str>>, StoreError> {
        let mut wanted = Vec::new();
        for (_, _, key, length, _) in rows {
            let length = usize::try_from(*length).unwrap_or(usize::MAX);
            let key = EventKey(key.0);
            if !wanted.contains(&key)
                && let Some(rest) = room.checked_sub(length)
            {
                room = rest;
                wanted.push(key);
            }
        }
        let found = due_deliveries::bodies(conn, &wanted)?;
        let text = |(key, body): (EventKey, EventPayload)| {
            let text = std::str::from_utf8(&body.bytes).map_err(|why| corrupt("body", why))?;
            Ok((UuidKey(key.0), Arc::from(text)))
        };
        found.into_iter().map(text).collect()
    }
);
