//! Intake of few events in one statement.
//!
//! The deliveries of an event are known in advance, unless a subscription has changed since the last intake. The statement
//! therefore has events and deliveries, and writes both if no subscription has changed. Otherwise it writes nothing, and
//! the intake uses a transaction. A transaction has four round trips between an event and its first request: many events
//! share that cost, few do not.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable};

use crate::backend::postgres::Conn;
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::events::postgres::{given_deliveries, given_events};
use crate::events::rows::{NewDelivery, NewEvent, by_key, fan_out, first_attempts, new_event};
use crate::events::sql;
use crate::events::{IncomingEvent, IntakeLimits, IntakeResult};
use crate::fanout_index::FanoutIndex;
use crate::usage::shard_at;

/// The most events and deliveries of the single statement.
const EVENTS: usize = 32;
const DELIVERIES: usize = 256;

#[derive(QueryableByName)]
struct TakenIn {
    #[diesel(sql_type = Bool)]
    is_known: bool,
    #[diesel(sql_type = Nullable<UuidColumn>)]
    key: Option<UuidKey>,
}

pub(crate) fn intake(
    conn: &mut Conn,
    index: &FanoutIndex,
    incoming: &[IncomingEvent],
    bounds: IntakeLimits,
) -> Result<Option<IntakeResult>, StoreError> {
    if incoming.len() <= EVENTS
        && let Some(given) = at_once(conn, index, incoming, bounds)?
    {
        return Ok(Some(given));
    }
    sql::postgres::intake(conn, index, incoming, bounds)
}

/// None, and nothing is written, if the index is stale, there are too many deliveries, or one is skipped.
fn at_once(
    conn: &mut Conn,
    index: &FanoutIndex,
    incoming: &[IncomingEvent],
    IntakeLimits { now, most, .. }: IntakeLimits,
) -> Result<Option<IntakeResult>, StoreError> {
    let by_key = by_key(incoming);
    let (deliveries, version) = index.read(|index| fan_out(index, by_key.iter(), now));
    // The roll-up counts a skipped delivery, and the statement has no part for that.
    if deliveries.len() > DELIVERIES.min(most) || deliveries.iter().any(NewDelivery::is_skipped) {
        return Ok(None);
    }
    let shard = shard_at(now);
    let events: Vec<NewEvent<'_>> = by_key
        .iter()
        .map(|(key, event)| new_event(*key, event, now))
        .collect();
    let taken_in: Vec<TakenIn> = given_events(&events)
        .column::<BigInt, _>("version", events.iter().map(|_| version.number))
        .column::<Nullable<BigInt>, _>("mark", events.iter().map(|_| version.mark))
        .column::<Integer, _>("shard", events.iter().map(|_| shard))
        .in_statement(
            ", known AS (
                 SELECT (SELECT coalesce(max(version), 0) FROM subscriptions) = version
                        AND (SELECT m.mark FROM subscription_marks m WHERE m.version = given.version)
                            IS NOT DISTINCT FROM mark AS is_known
                   FROM given LIMIT 1
             ), new AS (
                 INSERT INTO events
                     (key, organization_id, event_id, event_type, body, traceparent, received_at, workflow_id)
                 SELECT key, organization_id, event_id, event_type, body, traceparent, received_at, workflow_id
                   FROM given, known WHERE is_known
                 ON CONFLICT DO NOTHING
                 RETURNING key, organization_id, octet_length(body) AS bytes
             ), owed AS (
                 INSERT INTO deliveries
                     (id, organization_id, subscription_id, event_key, origin, activation,
                      generation, attempts, state, due, finished_at, created_at, event_type, partition)
                 SELECT also.*, subscription_id % (SELECT count FROM partitioning WHERE id = 1)
                   FROM also JOIN new ON new.key = also.event_key
                 ON CONFLICT DO NOTHING
             ), stored AS (
                 INSERT INTO storage_usage AS s (organization_id, shard, bytes)
                 SELECT organization_id, (SELECT shard FROM given LIMIT 1), sum(bytes)
                   FROM new GROUP BY organization_id
                  -- The order of bytes, as in `queries::stored`: two transactions that lock rows
                  -- in different orders end in a deadlock.
                  ORDER BY organization_id COLLATE \"C\"
                 ON CONFLICT (organization_id, shard) DO UPDATE SET bytes = s.bytes + excluded.bytes
             )
             SELECT is_known, key FROM known LEFT JOIN new ON TRUE",
        )
        .with(given_deliveries(&deliveries))
        .load(conn)?;
    if !taken_in.iter().all(|row| row.is_known) {
        return Ok(None);
    }
    let new: HashSet<UuidKey> = taken_in.into_iter().filter_map(|row| row.key).collect();
    Ok(Some(IntakeResult {
        new_events: new.len(),
        tasks: first_attempts(deliveries.iter().filter(|row| new.contains(&row.event_key))),
    }))
}
