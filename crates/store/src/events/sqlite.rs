//! SQL of events for SQLite: many rows are a prepared statement in a loop.

use diesel::prelude::*;
use hookline_core::ids::SubscriptionId;
use hookline_core::partition::Partition;

use crate::backend::sqlite::Conn;
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::events::rows::{NewDelivery, NewEvent};
use crate::fanout_index::Version;
use crate::partitions::cluster::sqlite::count;
use crate::schema::{deliveries, events};
use crate::usage::UsageShard;
use crate::usage::sqlite::add_stored;

/// Answers with the new events. The version of the subscriptions is a separate query, which costs no round trip here.
pub(crate) fn insert_events(
    conn: &mut Conn,
    rows: &[NewEvent<'_>],
) -> Result<(Vec<UuidKey>, Option<Version>), StoreError> {
    let mut new = Vec::with_capacity(rows.len());
    for row in rows {
        let inserted = diesel::insert_into(events::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(conn)?;
        if inserted == 1 {
            new.push(row.key);
        }
    }
    Ok((new, None))
}

/// Inserts new deliveries, and adds to the storage usage.
pub(crate) fn insert_fan_out(
    conn: &mut Conn,
    rows: &[NewDelivery<'_>],
    stored: &[UsageShard<'_>],
) -> Result<(), StoreError> {
    let partitions = count(conn)?;
    for row in rows {
        let Partition(partition) = partitions.of(SubscriptionId(row.subscription_id));
        diesel::insert_into(deliveries::table)
            .values((
                deliveries::id.eq(row.id),
                deliveries::organization_id.eq(row.organization_id),
                deliveries::subscription_id.eq(row.subscription_id),
                deliveries::event_key.eq(row.event_key),
                deliveries::origin.eq(row.origin),
                deliveries::activation.eq(row.activation),
                deliveries::generation.eq(row.generation),
                deliveries::attempts.eq(row.attempts),
                deliveries::state.eq(row.state),
                deliveries::due.eq(row.due),
                deliveries::finished_at.eq(row.finished_at),
                deliveries::created_at.eq(row.created_at),
                deliveries::event_type.eq(row.event_type),
                deliveries::partition.eq(i32::from(partition)),
            ))
            .on_conflict_do_nothing()
            .execute(conn)?;
    }
    add_stored(conn, stored)
}
