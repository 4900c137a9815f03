//! SQL of numbers for PostgreSQL.

use diesel::prelude::*;

use crate::backend::postgres::Conn;
use crate::error::StoreError;

/// The pending rows `d` of a subscription `s`, the longest due first.
pub(crate) const OWED: &str = "CROSS JOIN LATERAL (
     SELECT due, backlog, origin, activation, event_key FROM deliveries
      WHERE subscription_id = s.id AND due + 0 IS NOT NULL ORDER BY due LIMIT 10000) d";

/// The rows `s` of each subscription in `found`. With a plain join, the planner may read the rows of all organizations.
pub(crate) const EACH: &str = "CROSS JOIN LATERAL (
     SELECT * FROM attempt_stats e
      WHERE e.organization_id = $1 AND e.subscription_id = found.id AND e.width IN (60, 3600)
        AND e.at >= $3 AND e.at < $4 AND ($5 = '' OR e.event_type = $5) LIMIT 500001) s WHERE $2 = 0";

/// Reads in the order of indexes, row by row. The planner expects as many rows of each subscription as of the average, and
/// would gather and sort all rows of a large one.
pub(crate) fn by_index<T>(
    conn: &mut Conn,
    read: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    conn.transaction(|conn| {
        diesel::sql_query("SET LOCAL enable_bitmapscan = off").execute(conn)?;
        read(conn)
    })
}
