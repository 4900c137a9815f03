//! Queries of retention. Each call is one slice, a short transaction of its own, and answers with the number of rows that
//! it removed; 0 means that there are no more.

use diesel::dsl::{exists, not, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use hookline_core::retention::TrustedTime;
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::rollup::hours_before;
use crate::schema::{attempt_counts, deliveries, events, retention_clock};
use crate::usage::UsageChange;

/// The most rows of a slice. In SQLite a row of the log takes about 20 µs, so other writes wait for some 20 ms.
pub(crate) const SLICE: usize = 1_000;

/// The most bytes of bodies of a slice, without the last event's.
const SLICE_BYTES: i64 = 8 * 1024 * 1024;

fn limit() -> i64 {
    i64::try_from(SLICE).unwrap_or(i64::MAX)
}

backends!(
    with {
        dead_deliveries: crate::deliveries::dead_deliveries::sql,
        own: crate::retention,
        rollup: crate::rollup,
        usage: crate::usage,
    }

    use backend::Conn;

    pub(crate) fn advance(conn: &mut Conn, now: Timestamp) -> Result<TrustedTime, StoreError> {
        conn.transaction(|conn| {
            // A no-op UPDATE locks the row, so that two runs do not overlap.
            let (at, seen): (i64, i64) = diesel::update(retention_clock::table.find(1))
                .set(retention_clock::id.eq(1))
                .returning((retention_clock::at, retention_clock::seen))
                .get_result(conn)?;
            let before = TrustedTime {
                at: Timestamp::from_unix_micros(at),
                seen: Timestamp::from_unix_micros(seen),
            };
            let after = before.advanced(now);
            diesel::update(retention_clock::table.find(1))
                .set((
                    retention_clock::at.eq(after.at.unix_micros()),
                    retention_clock::seen.eq(after.seen.unix_micros()),
                ))
                .execute(conn)?;
            Ok(after)
        })
    }

    /// Attempts first, then their totals, then the roll-up.
    pub(crate) fn forget_attempts(conn: &mut Conn, day: i64) -> Result<usize, StoreError> {
        conn.transaction(|conn| {
            if !own::try_lock_retention(conn)? {
                return Ok(0);
            }
            match own::forget_attempts(conn, day, SLICE)? {
                0 => match forget_counts(conn, day)? {
                    0 => rollup::forget(conn, Timestamp::of_unix_day(day).unix_micros(), limit()),
                    removed => Ok(removed),
                },
                removed => Ok(removed),
            }
        })
    }

    /// Whole hours alone: a row of an hour never begins before `cutoff` and ends after it.
    pub(crate) fn fold_stats(conn: &mut Conn, cutoff: Timestamp) -> Result<usize, StoreError> {
        conn.transaction(|conn| {
            if !own::try_lock_retention(conn)? {
                return Ok(0);
            }
            rollup::fold(conn, hours_before(cutoff), limit())
        })
    }

    fn forget_counts(conn: &mut Conn, day: i64) -> Result<usize, StoreError> {
        let counts: Vec<(String, i64, String, String, i64, i32)> = attempt_counts::table
            .filter(attempt_counts::day.lt(day))
            .order(attempt_counts::day)
            .limit(limit())
            .select((
                attempt_counts::organization_id,
                attempt_counts::subscription_id,
                attempt_counts::event_type,
                attempt_counts::status,
                attempt_counts::day,
                attempt_counts::shard,
            ))
            .load(conn)?;
        for count in &counts {
            let (owner, subscription, event_type, status, day, shard) = count;
            diesel::delete(attempt_counts::table.find((
                owner,
                subscription,
                event_type,
                status,
                day,
                shard,
            )))
            .execute(conn)?;
        }
        Ok(counts.len())
    }

    /// An event with a pending delivery stays. The storage usage of an organization decreases in the same transaction.
    pub(crate) fn forget_events(conn: &mut Conn, cutoff: Timestamp) -> Result<usize, StoreError> {
        conn.transaction(|conn| {
            if !own::try_lock_retention(conn)? {
                return Ok(0);
            }
            let keys = forgettable(conn, cutoff)?;
            let ended: Vec<UuidKey> = deliveries::table
                .filter(deliveries::event_key.eq_any(&keys))
                .filter(deliveries::state.ne("pending"))
                .limit(limit())
                .select(deliveries::id)
                .load(conn)?;
            let forgotten: Vec<UuidKey> = diesel::delete(
                deliveries::table
                    .filter(deliveries::id.eq_any(&ended))
                    .filter(deliveries::state.ne("pending")),
            )
            .returning(deliveries::id)
            .get_results(conn)?;
            dead_deliveries::remove(conn, &forgotten)?;
            let removed = forgotten.len();
            if ended.len() == SLICE {
                // More deliveries of these events may be left; the events go with the last of them.
                return Ok(removed);
            }
            // A delivery that was restarted meanwhile keeps its event.
            let kept = deliveries::table.filter(deliveries::event_key.eq(events::key));
            let deleted: Vec<(String, i64)> = diesel::delete(
                events::table
                    .filter(events::key.eq_any(&keys))
                    .filter(not(exists(kept))),
            )
            .returning((
                events::organization_id,
                sql::<BigInt>("CAST(length(body) AS BIGINT)"),
            ))
            .get_results(conn)?;
            let mut stored = UsageChange::default();
            for (owner, bytes) in &deleted {
                stored.add(owner, -bytes);
            }
            usage::add_stored(conn, &stored.into_shards(0))?;
            Ok(removed + deleted.len())
        })
    }

    /// The oldest events without a pending delivery.
    fn forgettable(conn: &mut Conn, cutoff: Timestamp) -> Result<Vec<UuidKey>, StoreError> {
        let pending = deliveries::table
            .filter(deliveries::event_key.eq(events::key))
            .filter(deliveries::state.eq("pending"));
        let rows: Vec<(UuidKey, i64)> = events::table
            .filter(events::received_at.lt(cutoff.unix_micros()))
            .filter(not(exists(pending)))
            .order(events::received_at)
            .limit(limit())
            .select((events::key, sql::<BigInt>("CAST(length(body) AS BIGINT)")))
            .load(conn)?;
        let mut room = SLICE_BYTES;
        let some = rows.into_iter().take_while(|(_, bytes)| {
            let fits = room > 0;
            room -= bytes;
            fits
        });
        Ok(some.map(|(key, _)| key).collect())
    }
);
