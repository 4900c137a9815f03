//! Pages of long lists, newest first, and counts of their rows in steps. Each step looks at a bounded window of the list, so
//! it is short, and takes a permit for a connection of its own. The next step continues where the window ended. A count of
//! many rows therefore blocks no other caller. `search` finds the rows of a page.

use hookline_core::cursor::Cursor;
use hookline_core::timestamp::Timestamp;

use crate::columns::UuidKey;
use crate::error::StoreError;

/// A page of a long list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultPage<T, Total> {
    /// Possibly fewer than the limit, also none, where most rows of the windows do not match.
    pub rows: Vec<T>,
    pub total: Total,
    /// The place where the search stopped early; none at the end of the list.
    pub searched: Option<Cursor>,
}

impl<T, Total> ResultPage<T, Total> {
    pub fn empty(total: Total) -> Self {
        Self {
            rows: Vec::new(),
            total,
            searched: None,
        }
    }
}

/// The start of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageStart {
    Offset(u64),
    /// As fast on the last page as on the first.
    Cursor(Cursor),
}

/// Rows that a query with a filter looks at. It reads twice as many, because it joins another table.
pub(crate) const WINDOW: i64 = 5_000;

/// Index entries that a query counts.
pub(crate) const COUNTED: i64 = 10_000;

/// The matching rows of a window, and its end where there are more.
pub(crate) struct WindowCount {
    pub(crate) matching: u64,
    pub(crate) end: Option<RowPosition>,
}

/// `created_at` and id of a row.
pub(crate) type RowPosition = (i64, UuidKey);

/// The rows between two places. Each end has one condition: of two, SQLite might begin the search at the wider one.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) newest: Newest,
    pub(crate) oldest: Oldest,
}

#[derive(Clone, Copy)]
pub(crate) enum Newest {
    OfAll,
    MadeBefore(i64),
    /// Exclusive.
    Behind(RowPosition),
}

#[derive(Clone, Copy)]
pub(crate) enum Oldest {
    OfAll,
    MadeAt(i64),
    Is(RowPosition),
}

impl Stretch {
    /// The rows after `after` that were created in the given time.
    pub(crate) fn of(
        after: Option<Cursor>,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Self {
        let newest = match (after, until) {
            (Some(after), Some(until)) if after.created_at >= until => {
                Newest::MadeBefore(until.unix_micros())
            }
            (Some(after), _) => Newest::Behind((after.created_at.unix_micros(), UuidKey(after.id))),
            (None, Some(until)) => Newest::MadeBefore(until.unix_micros()),
            (None, None) => Newest::OfAll,
        };
        let oldest = since.map_or(Oldest::OfAll, |since| Oldest::MadeAt(since.unix_micros()));
        Self { newest, oldest }
    }

    pub(crate) fn down_to(self, place: Option<RowPosition>) -> Self {
        Self {
            oldest: place.map_or(self.oldest, Oldest::Is),
            ..self
        }
    }
}

/// Narrows a boxed query over a table with `created_at` and `id` to a stretch.
macro_rules! stretched {
    ($rows:expr, $table:ident, $stretch:expr) => {{
        use crate::paging::{Newest, Oldest};
        use crate::schema::$table;
        let stretch = $stretch;
        let rows = match stretch.newest {
            Newest::OfAll => $rows,
            Newest::MadeBefore(at) => $rows.filter($table::created_at.lt(at)),
            // The first condition lets the index search begin at the place.
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

/// The most steps of a count with a filter.
pub(crate) const COUNT_STEPS: usize = 20;

pub(crate) fn cursor((at, id): RowPosition) -> Cursor {
    Cursor {
        created_at: Timestamp::from_unix_micros(at),
        id: id.0,
    }
}

/// None where `steps` do not suffice.
pub(crate) async fn count(
    steps: usize,
    mut step: impl AsyncFnMut(Option<Cursor>) -> Result<WindowCount, StoreError>,
) -> Result<Option<u64>, StoreError> {
    let (mut after, mut total) = (None, 0);
    for _ in 0..steps {
        let counted = step(after).await?;
        total += counted.matching;
        let Some(end) = counted.end else {
            return Ok(Some(total));
        };
        after = Some(cursor(end));
    }
    Ok(None)
}

pub(crate) use stretched;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::columns::UuidKey;

    #[tokio::test]
    async fn a_count_is_exact_or_none() {
        let counted = async |windows: i64, steps| {
            let mut left = windows;
            let count = count(steps, async |_| {
                left -= 1;
                Ok(WindowCount {
                    matching: 3,
                    end: (left > 0).then(|| (left, UuidKey(Uuid::nil()))),
                })
            });
            count.await.unwrap()
        };
        assert_eq!(counted(1, 4).await, Some(3));
        assert_eq!(counted(4, 4).await, Some(12));
        assert_eq!(counted(5, 4).await, None);
    }
}
