//! The log of attempts, newest first.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::dsl::{exists, sql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Text};
use hookline_core::event_type::EventType;
use hookline_core::ids::EventKey;

use super::super::Conn;
use super::progress;
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::{AttemptStatus, Body, Excerpt, LogEntry, LogQuery};
use crate::rows::{AttemptRow, corrupt};
use crate::schema::{attempts, events, subscriptions};
use crate::windows::{Place, Reach, Step, Stretch, WINDOW, stretched};

/// How many bytes are read of every event. SQL counts from 1.
const BEGINNING: &str = "substr(events.body, 1, 256)";

/// An attempt, its event's id and key, how long the event is, and its beginning.
pub(crate) type Row = (AttemptRow, String, Key, i64, Vec<u8>);

/// Narrows a query over attempts to what an index answers: those of an organization or of a subscription, all or the
/// failed ones; or those of an organization and a type.
macro_rules! indexed {
    ($rows:expr, $query:expr, $stretch:expr) => {{
        let query: &LogQuery = $query;
        let mut rows = $rows.into_boxed();
        rows = match query.subscription {
            // It belongs to the organization.
            Some(subscription) => rows.filter(attempts::subscription_id.eq(subscription.0)),
            None => rows.filter(attempts::organization_id.eq(query.organization.as_str())),
        };
        if query.status == Some(AttemptStatus::Failed) {
            // In the words of the indexes of what failed: they are of no use for a value that is bound.
            rows = rows.filter(sql::<Bool>("attempts.status = 'failed'"));
        } else if let (None, Some(event_type)) = (query.subscription, query.event_type) {
            rows = rows.filter(attempts::event_type.eq(event_type.as_str()));
        }
        stretched!(rows, attempts, $stretch)
    }};
}

/// Narrows it to the rest of what was asked for. The type is no column of an index here, and shall not seem to be one:
/// an index over all attempts of the type would lead through those of other subscriptions.
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

/// What the index does not answer.
fn rest_of(query: &LogQuery) -> (Option<EventType>, Option<AttemptStatus>) {
    let failed = query.status == Some(AttemptStatus::Failed);
    let by_type = query.subscription.is_none() && !failed;
    (
        query.event_type.filter(|_| !by_type),
        query.status.filter(|_| !failed),
    )
}

/// Whether a subscription, deleted ones included, belongs to the organization that asks.
fn may_ask(conn: &mut Conn, query: &LogQuery) -> Result<bool, StoreError> {
    let Some(subscription) = query.subscription else {
        return Ok(true);
    };
    let owned = subscriptions::table
        .filter(subscriptions::id.eq(subscription.0))
        .filter(subscriptions::organization_id.eq(query.organization.as_str()));
    Ok(diesel::select(exists(owned)).get_result(conn)?)
}

/// The place of the `n`th attempt of a stretch, from 1: the index alone tells it.
fn nth(
    conn: &mut Conn,
    query: &LogQuery,
    stretch: Stretch,
    n: i64,
) -> Result<Option<Place>, StoreError> {
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
    reach: Reach,
) -> Result<Step<Row>, StoreError> {
    if !may_ask(conn, query)? {
        return Ok(Step::nothing());
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
            return Ok(Step::nothing());
        };
        stretch = stretch.behind(last);
        skip = 0;
    }
    let joined = attempts::table.inner_join(events::table);
    let rows: Vec<Row> = filtered!(indexed!(joined, query, stretch), rest)
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
    Ok(Step { rows, passed, end })
}

/// The attempts with what they carried, as much of it as `room` bytes have room for.
pub(crate) fn entries(
    conn: &mut Conn,
    rows: Vec<Row>,
    room: usize,
) -> Result<Vec<LogEntry>, StoreError> {
    let bodies = whole_bodies(conn, &rows, room)?;
    let entry = |(row, event_id, key, _, beginning): Row| {
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

/// The events that there is room for, the first ones first. Many attempts may be of one event.
fn whole_bodies(
    conn: &mut Conn,
    rows: &[Row],
    mut room: usize,
) -> Result<HashMap<Key, Arc<str>>, StoreError> {
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
    let found = progress::bodies(conn, &wanted)?;
    let text = |(key, body): (EventKey, Body)| {
        let text = std::str::from_utf8(&body.bytes).map_err(|why| corrupt("body", why))?;
        Ok((Key(key.0), Arc::from(text)))
    };
    found.into_iter().map(text).collect()
}

/// The last character may have been cut.
fn whole_characters(beginning: &[u8]) -> &str {
    match std::str::from_utf8(beginning) {
        Ok(text) => text,
        Err(cut) => std::str::from_utf8(&beginning[..cut.valid_up_to()]).unwrap_or_default(),
    }
}
