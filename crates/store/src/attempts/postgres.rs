//! Rows of the log for PostgreSQL.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt};

use crate::attempts::sql::FoundAttempt;
use crate::backend::postgres::Conn;
use crate::columns::UuidColumn;
use crate::error::StoreError;
use crate::search::FoundRow;
use crate::search::statement::RawQuery;

/// The attempts at these places, in their order. Each is found by the primary key, in one partition of the table.
pub(crate) fn at(conn: &mut Conn, rows: &[FoundRow]) -> Result<Vec<FoundAttempt>, StoreError> {
    let mut query = RawQuery::<Pg>::default();
    query.sql("SELECT a.*, e.event_id FROM unnest(");
    query.bind::<Array<BigInt>, _>(rows.iter().map(|row| row.at).collect::<Vec<_>>());
    query
        .sql(", ")
        .bind::<Array<UuidColumn>, _>(rows.iter().map(|row| row.id).collect::<Vec<_>>());
    query.sql(
        ") WITH ORDINALITY AS w (at, id, number)
         JOIN attempts a ON a.created_at = w.at AND a.id = w.id
         JOIN events e ON e.key = a.event_key
        ORDER BY w.number",
    );
    Ok(query.load(conn)?)
}
