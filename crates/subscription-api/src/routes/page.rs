//! Pages of a long list: where one begins, and what leads to the next.

use hookline_core::cursor::{Cursor, List};
use hookline_store::{Listing, PageStart};
use serde_json::value::RawValue;

use crate::extract::query::Query;
use crate::routes::response_size::{Room, Shorten};

/// How many rows a page has unless it is said.
pub(crate) const DEFAULT_LIMIT: u32 = 50;

/// The page that a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// How many rows it has at most.
    pub(crate) limit: u32,
    /// Where it begins.
    pub(crate) start: PageStart,
    /// The list that it is of.
    pub(crate) list: List,
}

impl Page {
    /// Takes `limit`, `offset` and `cursor`, which must be of this list.
    pub(crate) fn take(query: &mut Query, list: List) -> Self {
        let limit = query.limit("limit").unwrap_or(DEFAULT_LIMIT);
        Self::of(limit, query, list)
    }

    /// Takes `offset` and `cursor` alone.
    pub(crate) fn of(limit: u32, query: &mut Query, list: List) -> Self {
        let offset = query.offset("; cursor reaches the rows beyond");
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

    /// The given one; 0 with a cursor.
    pub(crate) fn offset(self) -> u64 {
        match self.start {
            PageStart::Offset(offset) => offset,
            PageStart::Cursor(_) => 0,
        }
    }

    /// The rows as an answer shows them, in at most 1 MiB. With an offset no row is left out, and long ones are
    /// shortened. With a cursor there may be fewer, and then the next page begins after the last one shown.
    pub(crate) fn show<T: Shorten>(
        self,
        rows: impl Iterator<Item = (Cursor, T)>,
        next_cursor: Option<String>,
    ) -> (Vec<Box<RawValue>>, Option<String>) {
        let mut room = Room::default();
        match self.start {
            PageStart::Offset(_) => (room.shorten(rows.map(|(_, row)| row)), next_cursor),
            PageStart::Cursor(_) => {
                let (shown, last) = room.fill(rows);
                let last = last.map(|at| self.list.text(at));
                (shown, last.or(next_cursor))
            }
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
        last.or(found.searched).map(|last| self.list.text(last))
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
