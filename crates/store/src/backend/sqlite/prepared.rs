//! Statements that stay prepared.
//!
//! Diesel caches most prepared statements, but not updates, upserts and raw SQL, because their text may differ each time.
//! The text of these statements is constant, so they are cached. SQLite also prepares a cached statement again if a bound
//! value may change its plan: a limit, or a value for the predicate of a partial index. These values are therefore part of
//! the text.

use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::Untyped;
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl};

use super::Conn;

/// Values, each for a `?` of the text.
type Values<'a> = &'a [&'a dyn QueryFragment<Sqlite>];

pub(crate) struct PreparedStatement<'a> {
    text: &'static str,
    values: Values<'a>,
}

pub(crate) fn prepared<'a>(text: &'static str, values: Values<'a>) -> PreparedStatement<'a> {
    debug_assert_eq!(text.matches('?').count(), values.len());
    PreparedStatement { text, values }
}

impl QueryFragment<Sqlite> for PreparedStatement<'_> {
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

/// Diesel caches it by its text, not by its type.
impl QueryId for PreparedStatement<'_> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for PreparedStatement<'_> {
    type SqlType = Untyped;
}

impl RunQueryDsl<Conn> for PreparedStatement<'_> {}

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
            let changed = prepared(
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
