//! SQL of numbers for SQLite, which joins in the order of the text.

use crate::backend::sqlite::Conn;
use crate::error::StoreError;

/// The pending rows `d` of a subscription `s`, the longest due first.
pub(crate) const OWED: &str = "CROSS JOIN deliveries d INDEXED BY deliveries_owed
     ON d.subscription_id = s.id AND d.due + 0 IS NOT NULL";

/// The rows `s` of each subscription in `found`.
pub(crate) const EACH: &str = "CROSS JOIN attempt_stats s
     WHERE s.organization_id = $1 AND s.subscription_id = found.id AND $2 = 0";

/// The text names the index.
pub(crate) fn by_index<T>(
    conn: &mut Conn,
    read: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    read(conn)
}
