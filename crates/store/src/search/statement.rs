//! A statement in pieces of text and values. Diesel caches it by its text.

use std::borrow::Cow;

use diesel::backend::Backend;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{SingleValue, SqlType, Untyped};

use crate::backend::{postgres, sqlite};

pub(crate) struct RawQuery<'a, DB: Backend> {
    pieces: Vec<Box<dyn QueryFragment<DB> + 'a>>,
}

impl<DB: Backend> Default for RawQuery<'_, DB> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<'a, DB: Backend> RawQuery<'a, DB> {
    pub(crate) fn sql(&mut self, text: impl Into<Cow<'static, str>>) -> &mut Self {
        self.pieces.push(Box::new(SqlText(text.into())));
        self
    }

    pub(crate) fn bind<S, T>(&mut self, value: T) -> &mut Self
    where
        S: SqlType + SingleValue,
        T: AsExpression<S>,
        T::Expression: QueryFragment<DB> + 'a,
    {
        self.pieces.push(Box::new(value.as_expression()));
        self
    }
}

struct SqlText(Cow<'static, str>);

impl<DB: Backend> QueryFragment<DB> for SqlText {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(&self.0);
        Ok(())
    }
}

impl<DB: Backend> QueryFragment<DB> for RawQuery<'_, DB> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        for piece in &self.pieces {
            piece.walk_ast(out.reborrow())?;
        }
        Ok(())
    }
}

impl<DB: Backend> QueryId for RawQuery<'_, DB> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB: Backend> Query for RawQuery<'_, DB> {
    type SqlType = Untyped;
}

impl RunQueryDsl<postgres::Conn> for RawQuery<'_, diesel::pg::Pg> {}

impl RunQueryDsl<sqlite::Conn> for RawQuery<'_, diesel::sqlite::Sqlite> {}
