//! Many rows in one prepared statement.
//!
//! A statement with a parameter for each value differs for each number of rows, so it is parsed and planned every time.
//! Here each column is one array parameter (`unnest`), so the statement is the same for one row and for a thousand.
//! Diesel caches it by its text.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, HasSqlType, Untyped};

use super::Conn;

/// Rows that a statement reads as the table `given`.
#[derive(Default)]
pub(crate) struct UnnestRows<'a> {
    columns: Vec<(&'static str, Box<dyn QueryFragment<Pg> + 'a>)>,
}

impl<'a> UnnestRows<'a> {
    /// All columns have the same number of values.
    pub(crate) fn column<S, T>(
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
    pub(crate) fn in_statement(self, rest: &'static str) -> BulkStatement<'a> {
        BulkStatement {
            given: self,
            also: None,
            into: None,
            rest,
            beside: None,
        }
    }

    /// The statement that inserts them into `table`, followed by `rest`.
    pub(crate) fn inserted_into(
        self,
        table: &'static str,
        rest: &'static str,
    ) -> BulkStatement<'a> {
        BulkStatement {
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

pub(crate) struct BulkStatement<'a> {
    given: UnnestRows<'a>,
    also: Option<UnnestRows<'a>>,
    into: Option<&'static str>,
    rest: &'static str,
    beside: Option<Box<BulkStatement<'a>>>,
}

impl<'a> BulkStatement<'a> {
    /// Adds these rows as the table `also`.
    pub(crate) fn with(self, also: UnnestRows<'a>) -> Self {
        Self {
            also: Some(also),
            ..self
        }
    }

    /// Adds another statement to the same round trip.
    pub(crate) fn together_with(self, other: BulkStatement<'a>) -> Self {
        Self {
            beside: Some(Box::new(other)),
            ..self
        }
    }

    /// Writes the statement over the table `name`.
    fn write_statement(&self, name: &str, mut out: AstPass<'_, '_, Pg>) {
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

impl QueryFragment<Pg> for BulkStatement<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH ");
        if let Some(other) = &self.beside {
            other.given.rows("others", out.reborrow())?;
            out.push_sql(", beside AS (");
            other.write_statement("others", out.reborrow());
            out.push_sql("), ");
        }
        if let Some(also) = &self.also {
            also.rows("also", out.reborrow())?;
            out.push_sql(", ");
        }
        self.given.rows("given", out.reborrow())?;
        self.write_statement("given", out);
        Ok(())
    }
}

/// Diesel caches it by its text, not by its type.
impl QueryId for BulkStatement<'_> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for BulkStatement<'_> {
    type SqlType = Untyped;
}

impl RunQueryDsl<Conn> for BulkStatement<'_> {}
