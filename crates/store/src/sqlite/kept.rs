//! Statements that the connection keeps.
//!
//! Diesel keeps what it has parsed of most statements, but of no update, no upsert and nothing that
//! is written in SQL, for these may have another text each time. These have not, and are kept by it.
//! And SQLite parses a kept statement again whenever a value is bound that its plan might depend on:
//! the limit, and what the predicate of a partial index is about. So these stand in the text.

use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::Untyped;
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

impl Query for Kept<'_> {
    type SqlType = Untyped;
}

impl RunQueryDsl<Conn> for Kept<'_> {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use diesel::connection::{InstrumentationEvent, SimpleConnection as _};
    use diesel::prelude::*;
    use diesel::sql_types::{Integer, Text};

    use super::*;

    #[test]
    fn a_statement_is_parsed_once_whatever_its_values() {
        let mut conn = Conn::establish(":memory:").unwrap();
        conn.batch_execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT)")
            .unwrap();
        let parsed = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&parsed);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::CacheQuery { .. } = event {
                counting.fetch_add(1, Ordering::Relaxed);
            }
        });
        for (id, note) in [(1, "one"), (2, "two"), (1, "three")] {
            let changed = kept(
                "INSERT INTO notes (id, note) VALUES (?, ?)
                 ON CONFLICT (id) DO UPDATE SET note = excluded.note",
                &[&id.into_sql::<Integer>(), &note.into_sql::<Text>()],
            )
            .execute(&mut conn);
            assert_eq!(changed, Ok(1));
        }
        assert_eq!(parsed.load(Ordering::Relaxed), 1);
        let notes =
            diesel::dsl::sql::<Text>("SELECT group_concat(note, ' ' ORDER BY id) FROM notes");
        assert_eq!(notes.get_result(&mut conn), Ok("three two".to_owned()));
    }
}
