//! Stretches of a list that is sorted by age, newest first. A query whose filter no index answers looks at one window
//! of the list, so that it is short however few rows match; the next query goes on where the window ended.

use hookline_core::cursor::Cursor;
use hookline_core::timestamp::Timestamp;

use crate::columns::Key;

/// How many rows a query with a filter looks at. Another table's row belongs to each, so it reads twice as many.
pub(crate) const WINDOW: i64 = 5_000;

/// How many entries of an index a query counts.
pub(crate) const COUNTED: i64 = 10_000;

/// Where a step of a search begins, and how far it goes.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) after: Option<Cursor>,
    /// How many matching rows to pass over.
    pub(crate) skip: u64,
    /// How many to find at most.
    pub(crate) limit: u32,
}

/// What a step found.
pub(crate) struct Step<T> {
    pub(crate) rows: Vec<T>,
    /// How many matching rows it passed over.
    pub(crate) passed: u64,
    /// The last place that it looked at, where rows may match behind it.
    pub(crate) end: Option<Place>,
}

impl<T> Step<T> {
    pub(crate) fn nothing() -> Self {
        Self {
            rows: Vec::new(),
            passed: 0,
            end: None,
        }
    }
}

/// How many of the rows that one query looked at match, and the last place that it looked at, where there are more.
pub(crate) struct Counted {
    pub(crate) matching: u64,
    pub(crate) end: Option<Place>,
}

/// A row's place in the list.
pub(crate) type Place = (i64, Key);

/// The rows between two places. There is one condition for each end: of two, SQLite might begin at the wider one.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) newest: Newest,
    pub(crate) oldest: Oldest,
}

#[derive(Clone, Copy)]
pub(crate) enum Newest {
    OfAll,
    MadeBefore(i64),
    /// The first one behind it.
    Behind(Place),
}

#[derive(Clone, Copy)]
pub(crate) enum Oldest {
    OfAll,
    MadeAt(i64),
    /// This one.
    Is(Place),
}

impl Stretch {
    /// The rows behind `after` that were made in the given time.
    pub(crate) fn of(
        after: Option<Cursor>,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Self {
        let newest = match (after, until) {
            (Some(after), Some(until)) if after.created_at >= until => {
                Newest::MadeBefore(until.unix_micros())
            }
            (Some(after), _) => Newest::Behind((after.created_at.unix_micros(), Key(after.id))),
            (None, Some(until)) => Newest::MadeBefore(until.unix_micros()),
            (None, None) => Newest::OfAll,
        };
        let oldest = since.map_or(Oldest::OfAll, |since| Oldest::MadeAt(since.unix_micros()));
        Self { newest, oldest }
    }

    pub(crate) fn behind(self, place: Place) -> Self {
        Self {
            newest: Newest::Behind(place),
            ..self
        }
    }

    pub(crate) fn down_to(self, place: Option<Place>) -> Self {
        Self {
            oldest: place.map_or(self.oldest, Oldest::Is),
            ..self
        }
    }
}

/// Narrows a boxed query over a table with `created_at` and `id` to a stretch.
macro_rules! stretched {
    ($rows:expr, $table:ident, $stretch:expr) => {{
        use crate::schema::$table;
        use crate::windows::{Newest, Oldest};
        let stretch = $stretch;
        let rows = match stretch.newest {
            Newest::OfAll => $rows,
            Newest::MadeBefore(at) => $rows.filter($table::created_at.lt(at)),
            // The first condition lets the index begin at the place.
            Newest::Behind((at, id)) => $rows
                .filter($table::created_at.le(at))
                .filter($table::created_at.lt(at).or($table::id.lt(id))),
        };
        match stretch.oldest {
            Oldest::OfAll => rows,
            Oldest::MadeAt(at) => rows.filter($table::created_at.ge(at)),
            Oldest::Is((at, id)) => rows
                .filter($table::created_at.ge(at))
                .filter($table::created_at.gt(at).or($table::id.ge(id))),
        }
    }};
}
pub(crate) use stretched;
