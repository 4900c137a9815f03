//! SQL of events for PostgreSQL: many rows in one statement.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Integer, Nullable, Text};

use crate::backend::ROWS;
use crate::backend::postgres::Conn;
use crate::backend::postgres::unnest::{BulkStatement, UnnestRows};
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::events::rows::{NewDelivery, NewEvent};
use crate::fanout_index::Version;
use crate::usage::UsageShard;
use crate::usage::postgres::adding_stored;

#[derive(QueryableByName)]
struct NewlyInserted {
    #[diesel(sql_type = UuidColumn)]
    id: UuidKey,
    #[diesel(sql_type = Nullable<BigInt>)]
    seen: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    mark: Option<i64>,
}

/// Answers with the new events, and with the newest version of the subscriptions, which saves a round trip.
pub(crate) fn insert_events(
    conn: &mut Conn,
    rows: &[NewEvent<'_>],
) -> Result<(Vec<UuidKey>, Option<Version>), StoreError> {
    let mut new = Vec::with_capacity(rows.len());
    let mut seen = None;
    for rows in rows.chunks(ROWS) {
        let inserted: Vec<NewlyInserted> = given_events(rows)
            .inserted_into(
                "events",
                "ON CONFLICT DO NOTHING
                 RETURNING key AS id, (SELECT max(version) FROM subscriptions) AS seen,
                           (SELECT mark FROM subscription_marks
                             WHERE version = (SELECT max(version) FROM subscriptions)) AS mark",
            )
            .load(conn)?;
        seen = inserted.first().and_then(|event| {
            let (number, mark) = (event.seen?, event.mark);
            Some(Version { number, mark })
        });
        new.extend(inserted.into_iter().map(|event| event.id));
    }
    Ok((new, seen))
}

pub(super) fn given_events<'a>(rows: &'a [NewEvent<'_>]) -> UnnestRows<'a> {
    UnnestRows::default()
        .column::<UuidColumn, _>("key", rows.iter().map(|row| row.key))
        .column::<Text, _>(
            "organization_id",
            rows.iter().map(|row| row.organization_id),
        )
        .column::<Text, _>("event_id", rows.iter().map(|row| row.event_id))
        .column::<Text, _>("event_type", rows.iter().map(|row| row.event_type))
        .column::<Binary, _>("body", rows.iter().map(|row| row.body))
        .column::<Nullable<Text>, _>(
            "traceparent",
            rows.iter().map(|row| row.traceparent.as_deref()),
        )
        .column::<BigInt, _>("received_at", rows.iter().map(|row| row.received_at))
        .column::<Text, _>("workflow_id", rows.iter().map(|row| row.workflow_id))
}

/// Inserts new deliveries, and adds to the storage usage.
pub(crate) fn insert_fan_out(
    conn: &mut Conn,
    rows: &[NewDelivery<'_>],
    stored: &[UsageShard<'_>],
) -> Result<(), StoreError> {
    let few = rows.len() % ROWS;
    let (many, last) = rows.split_at(rows.len() - few);
    for rows in many.chunks(ROWS) {
        fan_out(rows).execute(conn)?;
    }
    fan_out(last)
        .together_with(adding_stored(stored))
        .execute(conn)?;
    Ok(())
}

fn fan_out<'a>(rows: &'a [NewDelivery<'_>]) -> BulkStatement<'a> {
    given_deliveries(rows).in_statement(
        "INSERT INTO deliveries
             (id, organization_id, subscription_id, event_key, origin, activation,
              generation, attempts, state, due, finished_at, created_at, event_type, partition)
         SELECT given.*, subscription_id % (SELECT count FROM partitioning WHERE id = 1) FROM given
         ON CONFLICT DO NOTHING",
    )
}

pub(super) fn given_deliveries<'a>(rows: &'a [NewDelivery<'_>]) -> UnnestRows<'a> {
    UnnestRows::default()
        .column::<UuidColumn, _>("id", rows.iter().map(|row| row.id))
        .column::<Text, _>(
            "organization_id",
            rows.iter().map(|row| row.organization_id),
        )
        .column::<BigInt, _>(
            "subscription_id",
            rows.iter().map(|row| row.subscription_id),
        )
        .column::<UuidColumn, _>("event_key", rows.iter().map(|row| row.event_key))
        .column::<Text, _>("origin", rows.iter().map(|row| row.origin))
        .column::<BigInt, _>("activation", rows.iter().map(|row| row.activation))
        .column::<Integer, _>("generation", rows.iter().map(|row| row.generation))
        .column::<Integer, _>("attempts", rows.iter().map(|row| row.attempts))
        .column::<Text, _>("state", rows.iter().map(|row| row.state))
        .column::<Nullable<BigInt>, _>("due", rows.iter().map(|row| row.due))
        .column::<Nullable<BigInt>, _>("finished_at", rows.iter().map(|row| row.finished_at))
        .column::<BigInt, _>("created_at", rows.iter().map(|row| row.created_at))
        .column::<Text, _>("event_type", rows.iter().map(|row| row.event_type))
}
