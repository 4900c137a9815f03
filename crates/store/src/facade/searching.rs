//! Long lists, in short steps: each is a query that looks at a bounded number of rows, and takes a turn of its own at a
//! connection. So a search through many rows holds no other caller up.

use hookline_core::cursor::Cursor;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::records::PageStart;
use crate::windows::{Counted, Place, Reach, Step};

/// How many steps the search for a page takes at most. It ends early then, and says where.
const STEPS: usize = 10;

/// How many steps a count with a filter takes at most.
pub(super) const COUNT_STEPS: usize = 20;

pub(super) fn cursor((at, id): Place) -> Cursor {
    Cursor {
        created_at: Timestamp::from_unix_micros(at),
        id: id.0,
    }
}

/// Looks for `limit` rows; also says where the search ended early.
pub(super) async fn search<T>(
    start: PageStart,
    limit: u32,
    mut step: impl AsyncFnMut(Reach) -> Result<Step<T>, StoreError>,
) -> Result<(Vec<T>, Option<Cursor>), StoreError> {
    let (mut after, mut skip) = match start {
        PageStart::Offset(offset) => (None, offset),
        PageStart::Cursor(cursor) => (Some(cursor), 0),
    };
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    for _ in 0..STEPS {
        let missing = wanted - rows.len();
        let found = step(Reach {
            after,
            skip,
            limit: u32::try_from(missing).unwrap_or(limit),
        })
        .await?;
        rows.extend(found.rows.into_iter().take(missing));
        let Some(end) = found.end.filter(|_| rows.len() < wanted) else {
            return Ok((rows, None));
        };
        skip -= found.passed;
        after = Some(cursor(end));
    }
    Ok((rows, after))
}

/// Counts in so many steps at most; none where these do not suffice.
pub(super) async fn count(
    steps: usize,
    mut step: impl AsyncFnMut(Option<Cursor>) -> Result<Counted, StoreError>,
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::columns::Key;

    /// A list of numbers, from the highest one on, of which every tenth matches. A step looks at 20 of them.
    fn step(all: i64, reach: Reach) -> Step<i64> {
        let before = reach
            .after
            .map_or(all, |after| after.created_at.unix_micros());
        let end = (before - 20).max(0);
        let matching: Vec<i64> = (end..before).rev().filter(|n| n % 10 == 0).collect();
        let skip = usize::try_from(reach.skip).unwrap();
        let limit = usize::try_from(reach.limit).unwrap();
        Step {
            passed: reach.skip.min(matching.len() as u64),
            rows: matching.into_iter().skip(skip).take(limit).collect(),
            end: (end > 0).then(|| (end, Key(Uuid::nil()))),
        }
    }

    async fn found(all: i64, start: PageStart, limit: u32) -> (Vec<i64>, Option<Cursor>) {
        let search = search(start, limit, async |reach| Ok(step(all, reach)));
        search.await.unwrap()
    }

    #[tokio::test]
    async fn a_search_goes_on_from_window_to_window_and_ends_early_after_ten() {
        let first = PageStart::Offset(0);
        assert_eq!(found(100, first, 3).await, (vec![90, 80, 70], None));
        assert_eq!(found(40, first, 9).await, (vec![30, 20, 10, 0], None));
        let behind = PageStart::Offset(3);
        assert_eq!(found(100, behind, 3).await, (vec![60, 50, 40], None));
        let (rows, searched) = found(1_000, first, 50).await;
        assert_eq!((rows.len(), rows.last()), (20, Some(&800)));
        let (rest, _) = found(1_000, PageStart::Cursor(searched.unwrap()), 1).await;
        assert_eq!(rest, [790]);
    }

    #[tokio::test]
    async fn a_count_is_exact_or_none() {
        let counted = async |windows: i64, steps| {
            let mut left = windows;
            let count = count(steps, async |_| {
                left -= 1;
                Ok(Counted {
                    matching: 3,
                    end: (left > 0).then(|| (left, Key(Uuid::nil()))),
                })
            });
            count.await.unwrap()
        };
        assert_eq!(counted(1, 4).await, Some(3));
        assert_eq!(counted(4, 4).await, Some(12));
        assert_eq!(counted(5, 4).await, None);
    }
}
