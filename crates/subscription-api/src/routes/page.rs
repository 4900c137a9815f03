//! Pagination: the page that a request asks for, and the cursor of the next page.

use hookline_core::cursor::{Cursor, CursorScope};
use hookline_store::{PageStart, ResultPage};
use serde_json::value::RawValue;

use crate::extract::query::Query;
use crate::routes::response_size::{ResponseBudget, Truncate};

/// Rows of a page without `limit`.
pub(crate) const DEFAULT_LIMIT: u32 = 50;

/// The page that a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// Rows at most.
    pub(crate) limit: u32,
    pub(crate) start: PageStart,
    pub(crate) list: CursorScope,
}

impl Page {
    /// Takes `limit`, `offset` and `cursor` from the query. The cursor must be one of this list.
    pub(crate) fn parse(query: &mut Query, list: CursorScope) -> Self {
        let limit = query.limit("limit").unwrap_or(DEFAULT_LIMIT);
        Self::with_limit(limit, query, list)
    }

    /// Takes `offset` and `cursor` from the query.
    pub(crate) fn with_limit(limit: u32, query: &mut Query, list: CursorScope) -> Self {
        let offset = query.offset("; use cursor for the rows after that");
        let cursor = query.take("cursor", |text| list.parse(text));
        if cursor.is_some() && offset.is_some() {
            query.violations.add("cursor", "cannot go with offset");
        }
        Self {
            limit,
            start: cursor.map_or(PageStart::Offset(offset.unwrap_or(0)), PageStart::Cursor),
            list,
        }
    }

    /// The given offset; 0 with a cursor.
    pub(crate) fn offset(self) -> u64 {
        match self.start {
            PageStart::Offset(offset) => offset,
            PageStart::Cursor(_) => 0,
        }
    }

    /// The rows of the response, at most 1 MiB. With an offset, no row is left out, and long bodies are cut. With a cursor,
    /// rows that do not fit are left for the next page.
    pub(crate) fn show<T: Truncate>(
        self,
        rows: impl Iterator<Item = (Cursor, T)>,
        next_cursor: Option<String>,
    ) -> (Vec<Box<RawValue>>, Option<String>) {
        let mut budget = ResponseBudget::default();
        match self.start {
            PageStart::Offset(_) => (budget.truncate(rows.map(|(_, row)| row)), next_cursor),
            PageStart::Cursor(_) => {
                let (shown, last) = budget.fill(rows);
                let last = last.map(|at| self.list.text(at));
                (shown, last.or(next_cursor))
            }
        }
    }

    /// Rows to read: one more row shows whether there is a next page.
    pub(crate) fn to_read(self) -> u32 {
        self.limit + 1
    }

    /// Keeps `limit` rows. The result is the cursor of the next page, if there are more rows or the search ended early.
    pub(crate) fn cut<T, Total>(
        self,
        found: &mut ResultPage<T, Total>,
        cursor: impl Fn(&T) -> Cursor,
    ) -> Option<String> {
        let last = cut(&mut found.rows, self.limit, cursor);
        last.or(found.searched).map(|last| self.list.text(last))
    }
}

/// Keeps `limit` rows. The result is the cursor of the last one, if there are more.
pub(crate) fn cut<T>(
    rows: &mut Vec<T>,
    limit: u32,
    cursor: impl Fn(&T) -> Cursor,
) -> Option<Cursor> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(cursor)
}
