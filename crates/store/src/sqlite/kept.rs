//! Statements that the connection keeps.
//!
//! Diesel keeps what it has parsed of most statements, but of no update, no upsert and nothing that
//! is written in SQL, for these may have another text each time. These have not, and are kept by it.
//! And SQLite parses a kept statement again whenever a value is bound that its plan might depend on:
//! the limit, and what the predicate of a partial index is about. So these stand in the text.

use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl};

use super::Conn;

/// Values, each for a `?` of the text.
type Values<'a> = &'a [&'a dyn QueryFragment<Sqlite>];

pub(super) struct Kept<'a> {
    text: &'static str,
    values: Values<'a>,
}

pub(super) fn kept<'a>(text: &'static str, values: Values<'a>) -> Kept<'a> {
    debug_assert_eq!(text.matches('?').count(), values.len());
    Kept { text, values }
}

impl QueryFragment<Sqlite> for Kept<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        let mut pieces = self.text.split('?');
        out.push_sql(pieces.next().unwrap_or_default());
        for (value, piece) in self.values.iter().zip(pieces) {
            value.walk_ast(out.reborrow())?;
            out.push_sql(piece);
        }
        Ok(())
    }
}

/// Its text says what it is, not its type.
impl QueryId for Kept<'_> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl RunQueryDsl<Conn> for Kept<'_> {}
