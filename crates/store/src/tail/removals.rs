//! What retention removes of the tail: a stream that goes on from a place before it tells its reader so.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use hookline_core::ids::OrganizationId;
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::schema::{stream_changes, stream_removals};
use crate::search::statement::RawQuery;
use crate::tail::{LogPlace, RemovedRows};

/// The most rows of a slice of retention.
const SLICE: i64 = 1_000;

/// The days for which removals are kept. An older place is told nothing.
const DAYS_KEPT: i64 = 400;

/// The last attempt of a day in the order of the tail is among this many that began last.
const AMONG: i64 = 1_000;

const MICROS_A_DAY: i64 = 86_400_000_000;

/// Removed rows of `stream_changes` by organization and day: their number and their last place.
type ChangesByDay = BTreeMap<(String, i64), (i64, (i64, UuidKey))>;

backends!(
    use backend::{Conn, Db};

    pub(crate) fn after(
        conn: &mut Conn,
        organization: &OrganizationId,
        place: LogPlace,
    ) -> Result<Option<RemovedRows>, StoreError> {
        let rows: Vec<(i64, i64, UuidKey)> = stream_removals::table
            .filter(stream_removals::organization_id.eq(organization.as_str()))
            .filter(stream_removals::last_recorded_in.ge(place.recorded_in))
            .limit(2 * DAYS_KEPT)
            .select((
                stream_removals::count,
                stream_removals::last_recorded_in,
                stream_removals::last_id,
            ))
            .load(conn)?;
        let rows = rows
            .into_iter()
            .map(|(count, recorded_in, id)| RemovedRows {
                count: count.unsigned_abs(),
                last: LogPlace {
                    recorded_in,
                    id: id.0,
                },
            });
        let missed = rows.filter(|removed| removed.last > place);
        Ok(missed.reduce(|one, other| RemovedRows {
            count: one.count + other.count,
            last: one.last.max(other.last),
        }))
    }

    /// The number of attempts of a day is their total, and the last one is found before it is gone.
    pub(crate) fn note_attempts(conn: &mut Conn, day: i64) -> Result<usize, StoreError> {
        let last = |column: &str| {
            format!(
                "(SELECT newest.{column} FROM (SELECT a.recorded_in, a.id FROM attempts a \
                   WHERE a.organization_id = d.organization_id AND a.created_at >= d.day * {MICROS_A_DAY} \
                     AND a.created_at < (d.day + 1) * {MICROS_A_DAY} \
                   ORDER BY a.created_at DESC, a.id DESC LIMIT {AMONG}) newest \
                 WHERE newest.recorded_in IS NOT NULL ORDER BY newest.recorded_in DESC, newest.id DESC LIMIT 1)"
            )
        };
        let mut query = RawQuery::<Db>::default();
        query.sql(
            "INSERT INTO stream_removals (organization_id, day, source, count, last_recorded_in, last_id) \
             SELECT d.organization_id, d.day, 'attempts', d.count, ",
        );
        // A day whose attempts are from before the migration is before every place.
        query.sql(format!(
            "coalesce({}, -1), coalesce({}, ",
            last("recorded_in"),
            last("id")
        ));
        query.bind::<UuidColumn, _>(UuidKey::default());
        query.sql(
            ") FROM (SELECT c.organization_id, c.day, CAST(sum(c.count) AS BIGINT) AS count \
                       FROM attempt_counts c WHERE c.day < ",
        );
        query.bind::<BigInt, _>(day);
        query.sql(format!(
            " AND NOT EXISTS (SELECT 1 FROM stream_removals r WHERE r.organization_id = c.organization_id \
                                 AND r.day = c.day AND r.source = 'attempts') \
               GROUP BY c.organization_id, c.day LIMIT {SLICE}) d WHERE TRUE \
             ON CONFLICT (organization_id, day, source) DO NOTHING"
        ));
        Ok(query.execute(conn)?)
    }

    pub(crate) fn forget_changes(conn: &mut Conn, day: i64) -> Result<usize, StoreError> {
        conn.transaction(|conn| {
            let old: Vec<(String, i64, UuidKey, i64)> = stream_changes::table
                .filter(stream_changes::at.lt(Timestamp::of_unix_day(day).unix_micros()))
                .order(stream_changes::at)
                .limit(SLICE)
                .select((
                    stream_changes::organization_id,
                    stream_changes::recorded_in,
                    stream_changes::id,
                    stream_changes::at,
                ))
                .load(conn)?;
            if old.is_empty() {
                return forget_removals(conn, day);
            }
            let mut removed = ChangesByDay::new();
            for (owner, recorded_in, id, at) in &old {
                let deleted = stream_changes::table.find((owner, recorded_in, id));
                // Another dispatcher may have deleted it meanwhile.
                if diesel::delete(deleted).execute(conn)? == 1 {
                    let day = Timestamp::from_unix_micros(*at).unix_day();
                    let place = (*recorded_in, *id);
                    let (count, last) = removed.entry((owner.clone(), day)).or_insert((0, place));
                    *count += 1;
                    *last = place.max(*last);
                }
            }
            note_changes(conn, removed)?;
            Ok(old.len())
        })
    }

    fn note_changes(conn: &mut Conn, removed: ChangesByDay) -> Result<(), StoreError> {
        for ((owner, day), (count, last)) in removed {
            let key = (&owner, day, "changes");
            let before: Option<(i64, UuidKey)> = stream_removals::table
                .find(key)
                .select((stream_removals::last_recorded_in, stream_removals::last_id))
                .get_result(conn)
                .optional()?;
            let last = before.map_or(last, |before| before.max(last));
            let place = (
                stream_removals::last_recorded_in.eq(last.0),
                stream_removals::last_id.eq(last.1),
            );
            diesel::insert_into(stream_removals::table)
                .values((
                    stream_removals::organization_id.eq(&owner),
                    stream_removals::day.eq(day),
                    stream_removals::source.eq("changes"),
                    stream_removals::count.eq(count),
                    place,
                ))
                .on_conflict((
                    stream_removals::organization_id,
                    stream_removals::day,
                    stream_removals::source,
                ))
                .do_update()
                .set((
                    stream_removals::count.eq(stream_removals::count + count),
                    place,
                ))
                .execute(conn)?;
        }
        Ok(())
    }

    fn forget_removals(conn: &mut Conn, day: i64) -> Result<usize, StoreError> {
        let old = stream_removals::table.filter(stream_removals::day.lt(day - DAYS_KEPT));
        Ok(diesel::delete(old).execute(conn)?)
    }
);
