//! The tail in PostgreSQL.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};
use hookline_core::ids::OrganizationId;

use crate::backend::postgres::Conn;
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::rows::corrupt;
use crate::search::statement::RawQuery;
use crate::tail::rows::{ChangeRow, FoundPlace, OF_ATTEMPTS, OF_CHANGES, TailedAttempt, names};
use crate::tail::{LogPlace, LogSnapshot, TailSpan};

#[derive(QueryableByName)]
struct SnapshotRow {
    #[diesel(sql_type = Text)]
    snapshot: String,
}

pub(crate) fn snapshot(conn: &mut Conn) -> Result<LogSnapshot, StoreError> {
    let row: SnapshotRow =
        diesel::sql_query("SELECT pg_current_snapshot()::text AS snapshot").get_result(conn)?;
    parse(&row.snapshot).ok_or_else(|| corrupt("pg_current_snapshot()", row.snapshot))
}

/// Reads `xmin:xmax:xip,xip`.
fn parse(text: &str) -> Option<LogSnapshot> {
    let mut parts = text.splitn(3, ':').skip(1);
    let next = parts.next()?.parse().ok()?;
    let running = parts.next()?.split(',').filter(|id| !id.is_empty());
    let mut running: Vec<i64> = running.map(|id| id.parse().ok()).collect::<Option<_>>()?;
    running.sort_unstable();
    Some(LogSnapshot { next, running })
}

/// The first rows of each organization and range, in the order of their places.
pub(crate) fn places(
    conn: &mut Conn,
    organizations: &[OrganizationId],
    span: &TailSpan,
    limit: usize,
) -> Result<Vec<FoundPlace>, StoreError> {
    match organizations {
        [only] if span.is_long => rest_of(conn, only, span.after, limit),
        all => in_ranges(conn, all, span, limit),
    }
}

/// The rows of an organization after a place: a page costs the same wherever it begins.
fn rest_of(
    conn: &mut Conn,
    organization: &OrganizationId,
    after: LogPlace,
    limit: usize,
) -> Result<Vec<FoundPlace>, StoreError> {
    let mut query = RawQuery::<Pg>::default();
    query.sql("SELECT p.recorded_in, p.id, p.at, 0::bigint AS place, p.is_change, ");
    query.bind::<Text, _>(organization.as_str());
    query.sql(" AS organization_id FROM tail_after(");
    query.bind::<Text, _>(organization.as_str()).sql(", ");
    query.bind::<BigInt, _>(after.recorded_in).sql(", ");
    query.bind::<UuidColumn, _>(UuidKey(after.id));
    query.sql(format!(
        ", {limit}) p ORDER BY p.recorded_in, p.id LIMIT {limit}"
    ));
    Ok(query.load(conn)?)
}

/// The same of several organizations: few rows, which are sorted.
fn in_ranges(
    conn: &mut Conn,
    organizations: &[OrganizationId],
    span: &TailSpan,
    limit: usize,
) -> Result<Vec<FoundPlace>, StoreError> {
    let (first, end): (Vec<i64>, Vec<i64>) = span.open_ranges().unzip();
    let mut query = RawQuery::<Pg>::default();
    query.sql("SELECT p.* FROM unnest(");
    query.bind::<Array<Text>, _>(names(organizations));
    query.sql(") AS o (id) CROSS JOIN unnest(");
    query.bind::<Array<BigInt>, _>(first).sql(", ");
    query.bind::<Array<BigInt>, _>(end);
    query.sql(") AS r (first, past) CROSS JOIN LATERAL (");
    write_rows(
        &mut query,
        ("attempts", "created_at", false),
        span.after,
        limit,
    );
    query.sql(" UNION ALL ");
    write_rows(
        &mut query,
        ("stream_changes", "at", true),
        span.after,
        limit,
    );
    query.sql(format!(") p ORDER BY p.recorded_in, p.id LIMIT {limit}"));
    Ok(query.load(conn)?)
}

/// Writes the rows of a table, given with its time and whether it has changes.
fn write_rows(
    query: &mut RawQuery<'_, Pg>,
    (table, at, is_change): (&str, &str, bool),
    after: LogPlace,
    limit: usize,
) {
    query.sql(format!(
        "(SELECT t.recorded_in, t.id, t.{at} AS at, 0::bigint AS place, {is_change} AS is_change, t.organization_id \
           FROM {table} t WHERE t.organization_id = o.id AND t.recorded_in >= r.first AND t.recorded_in < r.past \
            AND (t.recorded_in, t.id) > ("
    ));
    query.bind::<BigInt, _>(after.recorded_in).sql(", ");
    query.bind::<UuidColumn, _>(UuidKey(after.id));
    query.sql(format!(") ORDER BY t.recorded_in, t.id LIMIT {limit})"));
}

/// Each attempt is found by the primary key, in one partition of the table.
pub(crate) fn attempts(
    conn: &mut Conn,
    found: &[FoundPlace],
) -> Result<Vec<TailedAttempt>, StoreError> {
    let mut query = RawQuery::<Pg>::default();
    query.sql(format!("{OF_ATTEMPTS} FROM unnest("));
    query.bind::<Array<BigInt>, _>(found.iter().map(|row| row.at).collect::<Vec<_>>());
    query.sql(", ");
    query.bind::<Array<UuidColumn>, _>(found.iter().map(|row| row.id).collect::<Vec<_>>());
    query.sql(
        ") AS w (at, id) JOIN attempts a ON a.created_at = w.at AND a.id = w.id \
         JOIN events e ON e.key = a.event_key",
    );
    Ok(query.load(conn)?)
}

pub(crate) fn changes(conn: &mut Conn, found: &[FoundPlace]) -> Result<Vec<ChangeRow>, StoreError> {
    let owners = found.iter().map(|row| row.organization_id.as_str());
    let mut query = RawQuery::<Pg>::default();
    query.sql(format!("{OF_CHANGES} FROM unnest("));
    query
        .bind::<Array<Text>, _>(owners.collect::<Vec<_>>())
        .sql(", ");
    query.bind::<Array<BigInt>, _>(found.iter().map(|row| row.recorded_in).collect::<Vec<_>>());
    query.sql(", ");
    query.bind::<Array<UuidColumn>, _>(found.iter().map(|row| row.id).collect::<Vec<_>>());
    query.sql(
        ") AS w (owner, recorded_in, id) JOIN stream_changes c ON c.organization_id = w.owner \
         AND c.recorded_in = w.recorded_in AND c.id = w.id LEFT JOIN events e ON e.key = c.event_key",
    );
    Ok(query.load(conn)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_as_postgresql_writes_it() {
        let read = |text| parse(text).map(|read| (read.next, read.running));
        assert_eq!(read("10:20:10,14,15"), Some((20, vec![10, 14, 15])));
        assert_eq!(read("20:20:"), Some((20, vec![])));
        assert_eq!(read("20:20"), None);
        assert_eq!(read("20:x:"), None);
    }
}
