//! The log of attempts, newest first.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable};
use hookline_core::ids::EventKey;

use super::super::Conn;
use super::progress;
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::{AttemptStatus, Body, Excerpt, Listing, LogEntry, LogQuery, PageStart};
use crate::rows::{AttemptRow, corrupt};
use crate::schema::{attempt_counts, attempts, events};

/// How many bytes are read of every event. SQL counts from 1.
const BEGINNING: &str = "substr(events.body, 1, 256)";

/// An attempt, its event's id and key, how long the event is, and its beginning.
type Row = (AttemptRow, String, Key, i64, Vec<u8>);

pub(crate) fn page(conn: &mut Conn, query: &LogQuery) -> Result<Listing<LogEntry>, StoreError> {
    let total = total(conn, query)?;
    if total == 0 {
        // To find nothing, everything would be read.
        let rows = Vec::new();
        return Ok(Listing { rows, total });
    }
    let mut rows = attempts::table
        .inner_join(events::table)
        .filter(attempts::organization_id.eq(query.organization.as_str()))
        .order((attempts::created_at.desc(), attempts::id.desc()))
        .limit(i64::from(query.limit))
        .select((
            AttemptRow::as_select(),
            events::event_id,
            events::key,
            sql::<BigInt>("CAST(length(events.body) AS BIGINT)"),
            sql::<Binary>(BEGINNING),
        ))
        .into_boxed();
    if let Some(subscription) = query.subscription {
        rows = rows.filter(attempts::subscription_id.eq(subscription.0));
    }
    if let Some(event_type) = query.event_type {
        rows = rows.filter(attempts::event_type.eq(event_type.as_str()));
    }
    rows = match query.status {
        None => rows,
        Some(AttemptStatus::Success) => {
            rows.filter(attempts::status.eq(AttemptStatus::Success.as_str()))
        }
        // In the words of the indexes of what failed: they are of no use for a value that is bound.
        Some(AttemptStatus::Failed) => rows.filter(sql::<Bool>("attempts.status = 'failed'")),
    };
    rows = match query.start {
        PageStart::Offset(offset) => rows.offset(i64::try_from(offset).unwrap_or(i64::MAX)),
        PageStart::Cursor(cursor) => {
            let (at, id) = (cursor.created_at.unix_micros(), Key(cursor.id));
            // The first condition lets the index begin at the cursor.
            rows.filter(attempts::created_at.le(at))
                .filter(attempts::created_at.lt(at).or(attempts::id.lt(id)))
        }
    };
    let rows: Vec<Row> = rows.load(conn)?;
    let bodies = whole_bodies(conn, &rows, query.body_bytes)?;
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
        Ok::<_, StoreError>(LogEntry {
            attempt: row.into_attempt(event_id)?,
            request_body,
        })
    };
    Ok(Listing {
        rows: rows.into_iter().map(entry).collect::<Result<_, _>>()?,
        total,
    })
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

fn total(conn: &mut Conn, query: &LogQuery) -> Result<u64, StoreError> {
    let mut counts = attempt_counts::table
        .filter(attempt_counts::organization_id.eq(query.organization.as_str()))
        // SUM over BIGINT is NUMERIC on PostgreSQL.
        .select(sql::<Nullable<BigInt>>("CAST(SUM(count) AS BIGINT)"))
        .into_boxed();
    if let Some(subscription) = query.subscription {
        counts = counts.filter(attempt_counts::subscription_id.eq(subscription.0));
    }
    if let Some(event_type) = query.event_type {
        counts = counts.filter(attempt_counts::event_type.eq(event_type.as_str()));
    }
    if let Some(status) = query.status {
        counts = counts.filter(attempt_counts::status.eq(status.as_str()));
    }
    let sum: Option<i64> = counts.get_result(conn)?;
    Ok(sum
        .and_then(|sum| u64::try_from(sum).ok())
        .unwrap_or_default())
}
