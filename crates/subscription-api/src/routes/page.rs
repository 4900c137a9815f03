//! Pages of a long list: where one begins, and what leads to the next.

use hookline_core::cursor::{Cursor, List};
use hookline_store::{Listing, PageStart};

use crate::query::Query;

/// How many rows a page has unless it is said.
pub(crate) const DEFAULT_LIMIT: u32 = 50;

/// The page that a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// How many rows it has at most.
    pub(crate) limit: u32,
    /// Where it begins.
    pub(crate) start: PageStart,
}

impl Page {
    /// Takes `limit`, `offset` and `cursor`, which must be of this list.
    pub(crate) fn take(query: &mut Query, list: List) -> Self {
        let limit = query.limit("limit").unwrap_or(DEFAULT_LIMIT);
        let offset = query.offset("; cursor reaches the rows beyond");
        let cursor = query.take("cursor", |text| Cursor::parse(text, list));
        if cursor.is_some() && offset.is_some() {
            query.violations.add("cursor", "cannot go with offset");
        }
        Self {
            limit,
            start: cursor.map_or(PageStart::Offset(offset.unwrap_or(0)), PageStart::Cursor),
        }
    }

    /// The given one; 0 with a cursor.
    pub(crate) fn offset(self) -> u64 {
        match self.start {
            PageStart::Offset(offset) => offset,
            PageStart::Cursor(_) => 0,
        }
    }

    /// How many rows to read: one more than asked for, which tells whether a next page exists.
    pub(crate) fn to_read(self) -> u32 {
        self.limit + 1
    }

    /// Leaves `limit` rows and names the last one, if there were more; or where the search for them ended early.
    pub(crate) fn cut<T, Total>(
        self,
        found: &mut Listing<T, Total>,
        place: impl Fn(&T) -> Cursor,
    ) -> Option<String> {
        let last = cut(&mut found.rows, self.limit, place);
        last.or(found.searched).map(|last| last.to_string())
    }
}

/// Leaves `limit` rows and says the place of the last one, if there were more.
pub(crate) fn cut<T>(
    rows: &mut Vec<T>,
    limit: u32,
    place: impl Fn(&T) -> Cursor,
) -> Option<Cursor> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(place)
}
