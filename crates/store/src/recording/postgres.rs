//! Records attempts in one statement. With a transaction of three statements, for deliveries, log and totals, the round
//! trips of a small batch cost more than its work.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

use crate::attempts::rows::AttemptRow;
use crate::backend::postgres::Conn;
use crate::backend::postgres::unnest::UnnestRows;
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::recording::{AttemptUpdate, FIRST_RUN, WriterShards};
use crate::rollup::minute_of;

#[derive(QueryableByName)]
struct MovedDelivery {
    #[diesel(sql_type = UuidColumn)]
    id: UuidKey,
}

/// The lower edges of the buckets of `hookline_core::histogram` in microseconds. From 0 on, `width_bucket` gives the number
/// of a bucket.
macro_rules! edges {
    () => {
        "'{0,1000,2000,5000,10000,20000,50000,100000,200000,500000,1000000,2000000,5000000,10000000,20000000,50000000,\
           100000000,200000000,500000000,1000000000,2000000000,5000000000,10000000000,20000000000,50000000000,\
           100000000000,200000000000}'::bigint[]"
    };
}

/// Moves each delivery that is pending at the attempt before, logs these attempts and adds them to the totals. Answers with
/// the deliveries that moved.
pub(crate) fn record(
    conn: &mut Conn,
    made: &[AttemptUpdate],
    shards: WriterShards,
) -> Result<HashSet<DeliveryId>, StoreError> {
    let mut order: Vec<&AttemptUpdate> = made.iter().collect();
    order.sort_unstable_by_key(|one| one.row.delivery_id);
    let row = |of: fn(&AttemptRow) -> &str| order.iter().map(move |one| of(&one.row));
    // Rows are locked in the order of ids first: an UPDATE alone would lock them in the order of its plan, and two
    // dispatchers could deadlock. The locking query returns the given rows, too: a later join would compare each row with
    // each.
    let moved: Vec<MovedDelivery> = UnnestRows::default()
        .column::<UuidColumn, _>("delivery_id", order.iter().map(|one| one.row.delivery_id))
        .column::<Integer, _>("generation", order.iter().map(|one| one.generation))
        .column::<Text, _>("state", order.iter().map(|one| one.to.state))
        .column::<Nullable<BigInt>, _>("due", order.iter().map(|one| one.to.due))
        .column::<Nullable<BigInt>, _>("finished_at", order.iter().map(|one| one.to.finished_at))
        .column::<Nullable<Text>, _>("exhausted_reason", order.iter().map(|one| one.to.exhausted_reason))
        .column::<UuidColumn, _>("id", order.iter().map(|one| one.row.id))
        .column::<Text, _>("organization_id", row(|row| &row.organization_id))
        .column::<BigInt, _>(
            "subscription_id",
            order.iter().map(|one| one.row.subscription_id),
        )
        .column::<UuidColumn, _>("event_key", order.iter().map(|one| one.row.event_key))
        .column::<Text, _>("event_type", row(|row| &row.event_type))
        .column::<Integer, _>("attempt", order.iter().map(|one| one.row.attempt))
        .column::<Text, _>("trigger", row(|row| &row.trigger))
        .column::<Text, _>("status", row(|row| &row.status))
        .column::<Text, _>("url", row(|row| &row.url))
        .column::<Nullable<Integer>, _>(
            "response_status",
            order.iter().map(|one| one.row.response_status),
        )
        .column::<Nullable<Text>, _>(
            "response_body",
            order.iter().map(|one| one.row.response_body.as_deref()),
        )
        .column::<Nullable<Text>, _>(
            "error_kind",
            order.iter().map(|one| one.row.error_kind.as_deref()),
        )
        .column::<Nullable<Text>, _>(
            "error_message",
            order.iter().map(|one| one.row.error_message.as_deref()),
        )
        .column::<BigInt, _>("duration_ms", order.iter().map(|one| one.row.duration_ms))
        .column::<BigInt, _>("created_at", order.iter().map(|one| one.row.created_at))
        .column::<Nullable<BigInt>, _>(
            "next_attempt_at",
            order.iter().map(|one| one.row.next_attempt_at),
        )
        .column::<Nullable<Text>, _>(
            "request_headers",
            order.iter().map(|one| one.row.request_headers.as_deref()),
        )
        .column::<Nullable<Text>, _>(
            "response_headers",
            order.iter().map(|one| one.row.response_headers.as_deref()),
        )
        .column::<Nullable<Text>, _>(
            "remote_address",
            order.iter().map(|one| one.row.remote_address.as_deref()),
        )
        .column::<Nullable<Text>, _>(
            "timings",
            order.iter().map(|one| one.row.timings.as_deref()),
        )
        .column::<BigInt, _>(
            "day",
            order.iter().map(|one| Timestamp::from_unix_micros(one.row.created_at).unix_day()),
        )
        .column::<Integer, _>("shard", order.iter().map(|_| shards.counts))
        .column::<BigInt, _>("minute", order.iter().map(|one| minute_of(one.row.created_at)))
        .column::<Integer, _>("cell", order.iter().map(|one| one.cell))
        .column::<Integer, _>("rollup_shard", order.iter().map(|_| shards.rollup))
        .column::<Bool, _>(
            "has_latency",
            order
                .iter()
                .map(|one| one.to.state == "delivered" && one.generation == FIRST_RUN),
        )
        .in_statement(concat!(
            ", locked AS (
                 SELECT g.* FROM given g JOIN deliveries d ON d.id = g.delivery_id
                  ORDER BY d.id FOR NO KEY UPDATE OF d
             ), moved AS (
                 UPDATE deliveries d
                    SET attempts = m.attempt, state = m.state, due = m.due,
                        finished_at = m.finished_at, exhausted_reason = m.exhausted_reason, backlog = NULL,
                        response_status = m.response_status, error_kind = m.error_kind,
                        duration_ms = m.duration_ms
                   FROM locked m
                  WHERE d.id = m.delivery_id AND d.state = 'pending'
                    AND d.generation = m.generation AND d.attempts = m.attempt - 1
                 RETURNING m.*, d.created_at AS made_at
             ), logged AS (
                 INSERT INTO attempts
                     (id, delivery_id, organization_id, subscription_id, event_key, event_type,
                      attempt, trigger, status, url, response_status, response_body, error_kind,
                      error_message, duration_ms, created_at, next_attempt_at,
                      request_headers, response_headers, remote_address, timings)
                 SELECT id, delivery_id, organization_id, subscription_id, event_key, event_type,
                        attempt, trigger, status, url, response_status, response_body, error_kind,
                        error_message, duration_ms, created_at, next_attempt_at,
                        request_headers, response_headers, remote_address, timings
                   FROM moved
             ), counted AS (
                 INSERT INTO attempt_counts AS c
                     (organization_id, subscription_id, event_type, status, day, shard, count, last_at)
                 SELECT organization_id, subscription_id, event_type, status, day, shard,
                        count(*), max(created_at)
                   FROM moved GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
                 ON CONFLICT (organization_id, subscription_id, event_type, status, day, shard)
                 DO UPDATE SET count = c.count + excluded.count,
                               last_at = greatest(c.last_at, excluded.last_at)
             ), tallied AS (
                 INSERT INTO attempt_stats AS s
                     (organization_id, subscription_id, width, at, event_type, cell, shard, count)
                 SELECT organization_id, coalesce(subscription_id, 0), 60, minute, event_type, with_latency,
                        rollup_shard, count(*)
                   FROM (SELECT organization_id, subscription_id, minute, event_type, rollup_shard,
                                cell + CASE WHEN has_latency
                                            THEN width_bucket(greatest(finished_at - made_at, 0), ",
            edges!(),
            ")
                                            ELSE 0 END AS with_latency
                           FROM moved) each
                  GROUP BY organization_id, minute, event_type, with_latency, rollup_shard,
                           GROUPING SETS ((subscription_id), ())
                  ORDER BY organization_id COLLATE \"C\", coalesce(subscription_id, 0), minute,
                           event_type COLLATE \"C\", with_latency
                 ON CONFLICT (organization_id, subscription_id, width, at, event_type, cell, shard)
                 DO UPDATE SET count = s.count + excluded.count
             )
             SELECT delivery_id AS id FROM moved"
        ))
        .load(conn)?;
    Ok(moved
        .into_iter()
        .map(|moved| DeliveryId(moved.id.0))
        .collect())
}

#[cfg(test)]
mod tests {
    use hookline_core::histogram::EDGES_MS;

    #[test]
    fn the_statement_has_the_edges_of_the_histogram() {
        let (_, rest) = edges!().split_once('{').unwrap();
        let (listed, _) = rest.split_once('}').unwrap();
        let listed: Vec<u64> = listed
            .split(',')
            .map(|edge| edge.trim().parse().unwrap())
            .collect();
        let edges = EDGES_MS.map(|edge| edge * 1_000);
        assert_eq!(listed[0], 0);
        assert_eq!(listed[1..], edges);
    }
}
