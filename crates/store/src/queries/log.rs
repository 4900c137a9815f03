//! The log of attempts, newest first.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable};

use super::super::Conn;
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::{AttemptStatus, Listing, LogEntry, LogQuery, PageStart};
use crate::rows::AttemptRow;
use crate::schema::{attempt_counts, attempts, events};

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
        .select((AttemptRow::as_select(), events::event_id, events::body))
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
    let rows: Vec<(AttemptRow, String, Vec<u8>)> = rows.load(conn)?;
    Ok(Listing {
        rows: rows
            .into_iter()
            .map(|(row, event_id, body)| row.into_entry(event_id, body))
            .collect::<Result<_, _>>()?,
        total,
    })
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
