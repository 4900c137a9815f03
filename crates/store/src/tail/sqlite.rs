//! The tail in SQLite: the writer numbers its transactions, and they commit in the order of their numbers.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;
use hookline_core::ids::OrganizationId;

use crate::backend::sqlite::Conn;
use crate::backend::sqlite::prepared::prepared;
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::schema::stream_position;
use crate::search::statement::RawQuery;
use crate::tail::rows::{ChangeRow, FoundPlace, OF_ATTEMPTS, OF_CHANGES, TailedAttempt};
use crate::tail::{LogSnapshot, TailSpan};

pub(crate) fn snapshot(conn: &mut Conn) -> Result<LogSnapshot, StoreError> {
    let last: i64 = stream_position::table
        .find(1)
        .select(stream_position::value)
        .get_result(conn)?;
    Ok(LogSnapshot {
        next: last + 1,
        running: Vec::new(),
    })
}

#[derive(QueryableByName)]
struct Position {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// The number of this transaction.
pub(crate) fn next_position(conn: &mut Conn) -> Result<i64, StoreError> {
    let position: Position = prepared(
        "UPDATE stream_position SET value = value + 1 RETURNING value",
        &[],
    )
    .get_result(conn)?;
    Ok(position.value)
}

/// The first rows of each organization and range, in the order of their places.
pub(crate) fn places(
    conn: &mut Conn,
    organizations: &[OrganizationId],
    span: &TailSpan,
    limit: usize,
) -> Result<Vec<FoundPlace>, StoreError> {
    let mut found: Vec<FoundPlace> = Vec::new();
    for organization in organizations {
        for range in span.open_ranges() {
            for (table, at, place) in [
                ("attempts", "created_at", "t.rowid"),
                ("stream_changes", "at", "0"),
            ] {
                let is_change = table == "stream_changes";
                let mut query = RawQuery::<Sqlite>::default();
                query.sql(format!(
                    "SELECT t.recorded_in, t.id, t.{at} AS at, {place} AS place, {is_change} AS is_change, \
                     t.organization_id FROM {table} t WHERE t.organization_id = "
                ));
                query.bind::<Text, _>(organization.as_str());
                query
                    .sql(" AND t.recorded_in >= ")
                    .bind::<BigInt, _>(range.0);
                query
                    .sql(" AND t.recorded_in < ")
                    .bind::<BigInt, _>(range.1);
                query.sql(" AND (t.recorded_in, t.id) > (");
                query.bind::<BigInt, _>(span.after.recorded_in).sql(", ");
                query.bind::<UuidColumn, _>(UuidKey(span.after.id));
                query.sql(format!(") ORDER BY t.recorded_in, t.id LIMIT {limit}"));
                found.extend(query.load::<FoundPlace>(conn)?);
            }
        }
    }
    found.sort_unstable_by_key(FoundPlace::log_place);
    found.truncate(limit);
    Ok(found)
}

pub(crate) fn attempts(
    conn: &mut Conn,
    found: &[FoundPlace],
) -> Result<Vec<TailedAttempt>, StoreError> {
    let mut rows = Vec::with_capacity(found.len());
    for one in found {
        let mut query = RawQuery::<Sqlite>::default();
        query.sql(format!(
            "{OF_ATTEMPTS} FROM attempts a JOIN events e ON e.key = a.event_key WHERE a.rowid = "
        ));
        query.bind::<BigInt, _>(one.place).sql(" AND a.id = ");
        query.bind::<UuidColumn, _>(one.id);
        rows.extend(query.load::<TailedAttempt>(conn)?);
    }
    Ok(rows)
}

pub(crate) fn changes(conn: &mut Conn, found: &[FoundPlace]) -> Result<Vec<ChangeRow>, StoreError> {
    let mut rows = Vec::with_capacity(found.len());
    for one in found {
        let mut query = RawQuery::<Sqlite>::default();
        query.sql(format!(
            "{OF_CHANGES} FROM stream_changes c LEFT JOIN events e ON e.key = c.event_key WHERE c.organization_id = "
        ));
        query.bind::<Text, _>(one.organization_id.as_str());
        query
            .sql(" AND c.recorded_in = ")
            .bind::<BigInt, _>(one.recorded_in);
        query.sql(" AND c.id = ").bind::<UuidColumn, _>(one.id);
        rows.extend(query.load::<ChangeRow>(conn)?);
    }
    Ok(rows)
}
