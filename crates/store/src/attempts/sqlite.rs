//! Rows of the log for SQLite.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::sqlite::Sqlite;

use crate::attempts::sql::FoundAttempt;
use crate::backend::sqlite::Conn;
use crate::columns::UuidColumn;
use crate::error::StoreError;
use crate::search::FoundRow;
use crate::search::statement::RawQuery;

/// The attempts at these places, in their order.
pub(crate) fn at(conn: &mut Conn, rows: &[FoundRow]) -> Result<Vec<FoundAttempt>, StoreError> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let mut query = RawQuery::<Sqlite>::default();
        query.sql(
            "SELECT a.*, e.event_id FROM attempts a JOIN events e ON e.key = a.event_key WHERE a.rowid = ",
        );
        query
            .bind::<BigInt, _>(row.place)
            .sql(" AND a.id = ")
            .bind::<UuidColumn, _>(row.id);
        found.extend(query.load::<FoundAttempt>(conn)?);
    }
    Ok(found)
}
