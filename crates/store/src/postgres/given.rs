//! Many rows in one statement that the connection keeps.
//!
//! A statement that names each value of each row is another one for each number of rows, and is
//! parsed and planned every time. Here a column is one array, so the statement is the same for one
//! row and for a thousand. Diesel keeps it by its text.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, HasSqlType, Untyped};

use super::Conn;

/// Rows that a statement reads as the table `given`.
#[derive(Default)]
pub(super) struct Given<'a> {
    columns: Vec<(&'static str, Box<dyn QueryFragment<Pg> + 'a>)>,
}

impl<'a> Given<'a> {
    /// One more column. All have as many values.
    pub(super) fn column<S, T>(
        mut self,
        name: &'static str,
        values: impl IntoIterator<Item = T>,
    ) -> Self
    where
        S: 'static,
        T: 'a,
        Vec<T>: ToSql<Array<S>, Pg>,
        Pg: HasSqlType<Array<S>>,
    {
        let column = Column {
            values: values.into_iter().collect::<Vec<_>>(),
            kind: PhantomData,
        };
        self.columns.push((name, Box::new(column)));
        self
    }

    /// The statement that follows `WITH given (…) AS (…)`.
    pub(super) fn in_statement(self, rest: &'static str) -> Statement<'a> {
        Statement {
            given: self,
            also: None,
            into: None,
            rest,
            beside: None,
        }
    }

    /// The statement that inserts them into `table`, with what follows.
    pub(super) fn inserted_into(self, table: &'static str, rest: &'static str) -> Statement<'a> {
        Statement {
            given: self,
            also: None,
            into: Some(table),
            rest,
            beside: None,
        }
    }

    /// These rows, as the table `name`.
    fn rows<'b>(&'b self, name: &str, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(name);
        out.push_sql(" ");
        self.names(&mut out);
        out.push_sql("AS (SELECT * FROM unnest(");
        for (at, (_, column)) in self.columns.iter().enumerate() {
            out.push_sql(if at == 0 { "" } else { ", " });
            column.walk_ast(out.reborrow())?;
        }
        out.push_sql(")) ");
        Ok(())
    }

    fn names(&self, out: &mut AstPass<'_, '_, Pg>) {
        out.push_sql("(");
        for (at, (name, _)) in self.columns.iter().enumerate() {
            out.push_sql(if at == 0 { "" } else { ", " });
            out.push_sql(name);
        }
        out.push_sql(") ");
    }
}

struct Column<S, T> {
    values: Vec<T>,
    kind: PhantomData<S>,
}

impl<S: 'static, T> QueryFragment<Pg> for Column<S, T>
where
    Vec<T>: ToSql<Array<S>, Pg>,
    Pg: HasSqlType<Array<S>>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<Array<S>, _>(&self.values)
    }
}

/// What to do with given rows.
pub(super) struct Statement<'a> {
    given: Given<'a>,
    also: Option<Given<'a>>,
    into: Option<&'static str>,
    rest: &'static str,
    beside: Option<Box<Statement<'a>>>,
}

impl<'a> Statement<'a> {
    /// Has these rows, too, as the table `also`.
    pub(super) fn with(self, also: Given<'a>) -> Self {
        Self {
            also: Some(also),
            ..self
        }
    }

    /// Does another one besides, in the same round trip.
    pub(super) fn beside(self, other: Statement<'a>) -> Self {
        Self {
            beside: Some(Box::new(other)),
            ..self
        }
    }

    /// What is done with the table `name`.
    fn deed(&self, name: &str, mut out: AstPass<'_, '_, Pg>) {
        if let Some(table) = self.into {
            out.push_sql("INSERT INTO ");
            out.push_sql(table);
            out.push_sql(" ");
            self.given.names(&mut out);
            out.push_sql("SELECT * FROM ");
            out.push_sql(name);
            out.push_sql(" ");
        }
        out.push_sql(self.rest);
    }
}

impl QueryFragment<Pg> for Statement<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH ");
        if let Some(other) = &self.beside {
            other.given.rows("others", out.reborrow())?;
            out.push_sql(", beside AS (");
            other.deed("others", out.reborrow());
            out.push_sql("), ");
        }
        if let Some(also) = &self.also {
            also.rows("also", out.reborrow())?;
            out.push_sql(", ");
        }
        self.given.rows("given", out.reborrow())?;
        self.deed("given", out);
        Ok(())
    }
}

/// Its text says what it is, not its type.
impl QueryId for Statement<'_> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Statement<'_> {
    type SqlType = Untyped;
}

impl RunQueryDsl<Conn> for Statement<'_> {}
