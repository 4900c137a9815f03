//! What comes of attempts: one after the other, and once for all of a batch into the totals.

use std::collections::{BTreeMap, HashSet};

use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::upsert::excluded;
use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

use super::Conn;
use super::bulk::entries;
use super::queries::recording::Made;
use crate::error::StoreError;
use crate::rows::AttemptRow;
use crate::schema::{attempt_counts, attempts};

/// Moves each delivery to its attempt where it is pending at the one before, logs the attempts of
/// those that moved and adds them to the totals; answers with those deliveries, whose entries in the
/// queue are visible again.
pub(crate) fn record(
    conn: &mut Conn,
    made: &[Made],
    writer: i32,
) -> Result<HashSet<DeliveryId>, StoreError> {
    let mut moved = HashSet::with_capacity(made.len());
    let mut totals = Totals::default();
    for Made {
        row,
        generation,
        to,
    } in made
    {
        // In these words, not in SQL, it is a statement that is kept.
        let rows = diesel::update(entries::table)
            .filter(entries::id.eq(row.delivery_id))
            .filter(entries::state.eq("pending"))
            .filter(entries::generation.eq(generation))
            .filter(entries::attempts.eq(row.attempt - 1))
            .set((
                entries::attempts.eq(row.attempt),
                entries::state.eq(to.state),
                entries::due.eq(to.due),
                entries::finished_at.eq(to.finished_at),
                entries::gave_up.eq(to.gave_up),
                entries::is_parked.eq(false),
                entries::visible_at.eq(None::<i64>),
                entries::takes.eq(0),
            ))
            .execute(conn)?;
        if rows == 0 {
            continue;
        }
        diesel::insert_into(attempts::table)
            .values(row)
            .execute(conn)?;
        totals.count(row);
        moved.insert(DeliveryId(row.delivery_id.0));
    }
    totals.add(conn, writer)?;
    Ok(moved)
}

/// The primary key of a total, but for its writer.
type Of<'a> = (&'a str, i64, &'a str, &'a str, i64);

/// Attempts, and when the last of them was.
#[derive(Default)]
struct Totals<'a>(BTreeMap<Of<'a>, (i64, i64)>);

impl<'a> Totals<'a> {
    fn count(&mut self, row: &'a AttemptRow) {
        let of = (
            &*row.organization_id,
            row.subscription_id,
            &*row.event_type,
            &*row.status,
            Timestamp::from_unix_micros(row.created_at).unix_day(),
        );
        let (count, last_at) = self.0.entry(of).or_insert((0, row.created_at));
        *count += 1;
        *last_at = row.created_at.max(*last_at);
    }

    fn add(self, conn: &mut Conn, writer: i32) -> Result<(), StoreError> {
        use attempt_counts as c;
        for ((organization, subscription, event_type, status, day), (count, last_at)) in self.0 {
            diesel::insert_into(c::table)
                .values((
                    c::organization_id.eq(organization),
                    c::subscription_id.eq(subscription),
                    c::event_type.eq(event_type),
                    c::status.eq(status),
                    c::day.eq(day),
                    c::writer.eq(writer),
                    c::count.eq(count),
                    c::last_at.eq(last_at),
                ))
                .on_conflict((
                    c::organization_id,
                    c::subscription_id,
                    c::event_type,
                    c::status,
                    c::day,
                    c::writer,
                ))
                .do_update()
                .set((
                    c::count.eq(c::count + excluded(c::count)),
                    c::last_at.eq(case_when(
                        c::last_at.lt(excluded(c::last_at)),
                        excluded(c::last_at),
                    )
                    .otherwise(c::last_at)),
                ))
                .execute(conn)?;
        }
        Ok(())
    }
}
