//! What a dispatcher says of attempts: each is logged once, whoever says it, and moves its delivery.

use std::collections::{BTreeMap, HashSet};

use diesel::prelude::*;
use hookline_core::delivery::{DeliveryState, GaveUp, Origin, OwedAttempt, Trigger};
use hookline_core::ids::{AttemptId, DeliveryId, OrganizationId};
use hookline_core::subscription::DisabledReason;
use hookline_core::timestamp::Timestamp;

use super::super::{Conn, bulk};
use super::failing;
use super::progress::signed;
use super::subscriptions::{Called, Disabling, disable, is_unchanged, next_version};
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::{AttemptRecord, AttemptStatus, Follow};
use crate::rows::{AttemptRow, StateColumns, trigger_name};

/// An attempt, and where its delivery moves with it.
pub(crate) struct Made {
    pub(crate) row: AttemptRow,
    pub(crate) generation: i32,
    pub(crate) to: StateColumns,
}

/// Moves each delivery on and logs its attempt, where nobody has done so before. Answers with the
/// deliveries that moved; of the others nothing is written.
pub(crate) fn record(
    conn: &mut Conn,
    records: &[AttemptRecord],
    writer: i32,
) -> Result<HashSet<DeliveryId>, StoreError> {
    let made: Vec<Made> = records.iter().map(made).collect();
    let ends = |record: &AttemptRecord| matches!(record.follow, Follow::Exhausted(_));
    if !records.iter().any(ends) {
        // That is one statement in PostgreSQL, and a savepoint of SQLite's writer.
        return bulk::record(conn, &made, writer);
    }
    conn.transaction(|conn| {
        let moved = bulk::record(conn, &made, writer)?;
        let fresh = records
            .iter()
            .filter(|record| moved.contains(&record.owed.delivery));
        judge(conn, fresh)?;
        Ok(moved)
    })
}

/// What follows for the subscriptions of deliveries that have ended here: once for each, however
/// many there are, and in one order, like everything that takes locks. A subscription that has
/// another URL or another activation by now is left as it is.
fn judge<'a>(
    conn: &mut Conn,
    fresh: impl Iterator<Item = &'a AttemptRecord>,
) -> Result<(), StoreError> {
    let mut gone: BTreeMap<Called<'_>, Timestamp> = BTreeMap::new();
    let mut exhausted: BTreeMap<Called<'_>, &OrganizationId> = BTreeMap::new();
    for record in fresh {
        let called = Called {
            subscription: record.subscription,
            url: record.url.as_str(),
            activation: record.activation,
        };
        match (record.follow, record.origin) {
            (Follow::Exhausted(GaveUp::Gone), _) => {
                let at = record.started.after(record.took);
                gone.entry(called).or_insert(at);
            }
            (Follow::Exhausted(_), Origin::Event) => {
                exhausted.insert(called, &record.organization);
            }
            (Follow::Exhausted(_), Origin::Test)
            | (Follow::Delivered | Follow::Again { .. }, _) => {}
        }
    }
    if !gone.is_empty() {
        // Before it is looked whether they were changed: no change is under way from here on.
        let version = next_version(conn)?;
        for (called, at) in gone {
            if is_unchanged(conn, called)? {
                let disabling = Disabling {
                    subscription: called.subscription,
                    reason: DisabledReason::Gone,
                    at,
                };
                disable(conn, disabling, version)?;
            }
        }
    }
    failing::note(conn, &exhausted)
}

fn made(record: &AttemptRecord) -> Made {
    let at = record.started.after(record.took);
    let to = match record.follow {
        Follow::Delivered => DeliveryState::Delivered { at },
        Follow::Again { due } => DeliveryState::Pending { due },
        Follow::Exhausted(why) => DeliveryState::Exhausted { at, why },
    };
    Made {
        row: row_of(record),
        generation: signed(record.owed.generation),
        to: to.into(),
    }
}

fn row_of(record: &AttemptRecord) -> AttemptRow {
    let OwedAttempt {
        delivery,
        generation,
        attempt,
        subscription: _,
    } = record.owed;
    let error = record.outcome.error();
    let status = match error {
        None => AttemptStatus::Success,
        Some(_) => AttemptStatus::Failed,
    };
    let (error_kind, error_message) = error.unzip();
    AttemptRow {
        id: Key(AttemptId::of(delivery, generation, attempt).0),
        delivery_id: Key(delivery.0),
        organization_id: record.organization.as_str().to_owned(),
        subscription_id: record.subscription.0,
        event_key: Key(record.event.0),
        event_type: record.event_type.as_str().to_owned(),
        attempt: signed(attempt),
        trigger: trigger_name(Trigger::of(record.origin, record.run, attempt)).to_owned(),
        status: status.as_str().to_owned(),
        url: record.url.as_str().to_owned(),
        response_status: record.outcome.status().map(i32::from),
        response_body: record.outcome.body().map(str::to_owned),
        error_kind: error_kind.map(|kind| kind.as_str().to_owned()),
        error_message,
        duration_ms: i64::try_from(record.took.as_millis()).unwrap_or(i64::MAX),
        created_at: record.started.unix_micros(),
        next_attempt_at: match record.follow {
            Follow::Again { due } => Some(due.unix_micros()),
            Follow::Delivered | Follow::Exhausted(_) => None,
        },
    }
}
