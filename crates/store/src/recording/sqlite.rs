//! Records attempts one after the other, and adds the batch to the totals once.

use std::collections::{BTreeMap, HashSet};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use hookline_core::histogram::Bucket;
use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

use crate::attempts::rows::AttemptRow;
use crate::backend::sqlite::Conn;
use crate::backend::sqlite::prepared::prepared;
use crate::columns::UuidColumn;
use crate::error::StoreError;
use crate::recording::{AttemptUpdate, FIRST_RUN, WriterShards};
use crate::rollup::{Tallies, TallyKey, minute_of, sqlite as rollup};
use crate::schema::attempts;
use crate::tail::sqlite::next_position;

/// Moves each delivery that is pending at the attempt before, logs these attempts and adds them to the totals. Answers with
/// the deliveries that moved.
pub(crate) fn record(
    conn: &mut Conn,
    made: &[AttemptUpdate],
    shards: WriterShards,
) -> Result<HashSet<DeliveryId>, StoreError> {
    let mut moved = HashSet::with_capacity(made.len());
    let mut totals = AttemptTotals::default();
    let mut tallies = Tallies::default();
    let position = next_position(conn)?;
    for update in made {
        let AttemptUpdate {
            row,
            generation,
            to,
            cell: _,
        } = update;
        let updated: Option<MovedDelivery> = prepared(
            "UPDATE deliveries
                SET attempts = ?, state = ?, due = ?, finished_at = ?, exhausted_reason = ?,
                    backlog = NULL, response_status = ?, error_kind = ?, duration_ms = ?
              WHERE id = ? AND state = 'pending' AND generation = ? AND attempts = ?
              RETURNING created_at",
            &[
                &row.attempt.into_sql::<Integer>(),
                &to.state.into_sql::<Text>(),
                &to.due.into_sql::<Nullable<BigInt>>(),
                &to.finished_at.into_sql::<Nullable<BigInt>>(),
                &to.exhausted_reason.into_sql::<Nullable<Text>>(),
                &row.response_status.into_sql::<Nullable<Integer>>(),
                &row.error_kind.as_deref().into_sql::<Nullable<Text>>(),
                &row.duration_ms.into_sql::<BigInt>(),
                &row.delivery_id.into_sql::<UuidColumn>(),
                &generation.into_sql::<Integer>(),
                &(row.attempt - 1).into_sql::<Integer>(),
            ],
        )
        .get_result(conn)
        .optional()?;
        let Some(delivery) = updated else {
            continue;
        };
        diesel::insert_into(attempts::table)
            .values((row, attempts::recorded_in.eq(position)))
            .execute(conn)?;
        totals.count(row);
        tallies.count(tally_key(update, &delivery));
        moved.insert(DeliveryId(row.delivery_id.0));
    }
    totals.add(conn, shards.counts)?;
    rollup::add(conn, &tallies, shards.rollup)?;
    Ok(moved)
}

#[derive(QueryableByName)]
struct MovedDelivery {
    #[diesel(sql_type = BigInt)]
    created_at: i64,
}

fn tally_key<'a>(update: &'a AttemptUpdate, delivery: &MovedDelivery) -> TallyKey<'a> {
    let row = &update.row;
    let latency = match update.to.finished_at {
        Some(at) if update.to.state == "delivered" && update.generation == FIRST_RUN => {
            let millis = u64::try_from(at - delivery.created_at).unwrap_or_default() / 1_000;
            i32::from(Bucket::of_millis(millis).number())
        }
        _ => 0,
    };
    TallyKey {
        organization_id: &row.organization_id,
        subscription_id: row.subscription_id,
        at: minute_of(row.created_at),
        event_type: &row.event_type,
        cell: update.cell + latency,
    }
}

/// The primary key of a total without its shard.
type TotalKey<'a> = (&'a str, i64, &'a str, &'a str, i64);

/// Count, and time of the last attempt.
#[derive(Default)]
struct AttemptTotals<'a>(BTreeMap<TotalKey<'a>, (i64, i64)>);

impl<'a> AttemptTotals<'a> {
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

    fn add(self, conn: &mut Conn, shard: i32) -> Result<(), StoreError> {
        for ((organization, subscription, event_type, status, day), (count, last_at)) in self.0 {
            prepared(
                "INSERT INTO attempt_counts
                   (organization_id, subscription_id, event_type, status, day, shard, count, last_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (organization_id, subscription_id, event_type, status, day, shard)
                 DO UPDATE SET count = count + excluded.count,
                               last_at = max(last_at, excluded.last_at)",
                &[
                    &organization.into_sql::<Text>(),
                    &subscription.into_sql::<BigInt>(),
                    &event_type.into_sql::<Text>(),
                    &status.into_sql::<Text>(),
                    &day.into_sql::<BigInt>(),
                    &shard.into_sql::<Integer>(),
                    &count.into_sql::<BigInt>(),
                    &last_at.into_sql::<BigInt>(),
                ],
            )
            .execute(conn)?;
        }
        Ok(())
    }
}
