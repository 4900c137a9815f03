//! Turns at replays. Any dispatcher takes the next one: it alone has it for some seconds, so one
//! that freezes or dies holds nothing up for longer.
//!
//! What a turn has started is committed together with how far the replay is and with the ids of
//! what has to be handed on. Who takes the next turn and finds such ids hands those on first: a
//! crash in between loses nothing, and a message too many does no harm.
//!
//! A turn looks at a limited number of rows in the order in which they were made, whether they are
//! wanted or not, so that it is short however few are.

use std::collections::HashSet;

use diesel::prelude::*;
use hookline_core::delivery::{Cause, OwedAttempt};
use hookline_core::event_type::{EventType, EventTypes};
use hookline_core::ids::{DeliveryId, ReplayId, SubscriptionId};
use hookline_core::timestamp::Timestamp;
use uuid::Uuid;

use super::super::{Conn, bulk};
use super::again;
use super::replays::{RUNNING, ReplayRow, end, span};
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::{ReplayEnded, ReplayStep, ReplayTurn, Restart};
use crate::schema::{deliveries, events, replays, subscriptions};

/// How many rows a turn looks at.
const ROWS_AT_ONCE: i64 = 1_000;

/// The length of an id in [`replays::unconfirmed`].
const ID: usize = 16;

/// Whether some replay's turn has come.
pub(crate) fn is_due(conn: &mut Conn, now: Timestamp) -> Result<bool, StoreError> {
    let due = replays::table.filter(replays::next_turn.le(now.unix_micros()));
    Ok(diesel::select(diesel::dsl::exists(due)).get_result(conn)?)
}

/// Takes the turn that has waited longest, until `until`.
pub(crate) fn take_turn(
    conn: &mut Conn,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<ReplayTurn>, StoreError> {
    conn.transaction(|conn| {
        let Some(id) = bulk::due_replay(conn, now)? else {
            return Ok(None);
        };
        let number = diesel::update(replays::table.find(id))
            .set((
                replays::turn.eq(replays::turn + 1),
                replays::next_turn.eq(until.unix_micros()),
            ))
            .returning(replays::turn)
            .get_result(conn)?;
        Ok(Some(ReplayTurn {
            replay: ReplayId(id.0),
            number,
        }))
    })
}

/// Starts the next deliveries again, at most `limit`; or answers with those whose messages are
/// not known to be handed on.
pub(crate) fn step(
    conn: &mut Conn,
    turn: ReplayTurn,
    limit: usize,
    now: Timestamp,
) -> Result<ReplayStep, StoreError> {
    conn.transaction(|conn| {
        // The row is locked by a change that is none.
        let row: Option<ReplayRow> = diesel::update(replays::table.find(Key(turn.replay.0)))
            .filter(replays::turn.eq(turn.number))
            .set(replays::turn.eq(turn.number))
            .returning(ReplayRow::as_returning())
            .get_result(conn)
            .optional()?;
        let Some(row) = row else {
            return Ok(ReplayStep::Nothing);
        };
        if let Some(ids) = &row.unconfirmed {
            let owed = still_owed(conn, ids)?;
            if !owed.is_empty() {
                return Ok(ReplayStep::HandOn(owed));
            }
        }
        if row.state != RUNNING {
            rest(conn, row.id, None)?;
            return Ok(ReplayStep::Nothing);
        }
        advance(conn, &row, limit, now)
    })
}

/// The turn is over: what it started was handed on. The next one is at `next`.
pub(crate) fn confirm(
    conn: &mut Conn,
    turn: ReplayTurn,
    next: Timestamp,
) -> Result<(), StoreError> {
    diesel::update(replays::table.find(Key(turn.replay.0)))
        .filter(replays::turn.eq(turn.number))
        .set((
            replays::unconfirmed.eq(None::<Vec<u8>>),
            replays::next_turn.eq(next.unix_micros()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Of what was started, what nobody has made an attempt at.
fn still_owed(conn: &mut Conn, ids: &[u8]) -> Result<Vec<OwedAttempt>, StoreError> {
    let keys: Vec<Key> = ids
        .chunks_exact(ID)
        .filter_map(|id| Uuid::from_slice(id).ok().map(Key))
        .collect();
    let rows: Vec<(Key, i64, i32, i32)> = deliveries::table
        .filter(deliveries::id.eq_any(keys))
        .filter(deliveries::state.eq("pending"))
        .filter(deliveries::attempts.eq(deliveries::attempts_before))
        .select((
            deliveries::id,
            deliveries::subscription_id,
            deliveries::generation,
            deliveries::attempts,
        ))
        .load(conn)?;
    let owed = rows
        .into_iter()
        .map(|(id, to, generation, made)| OwedAttempt {
            delivery: DeliveryId(id.0),
            generation: generation.unsigned_abs(),
            attempt: made.unsigned_abs() + 1,
            subscription: SubscriptionId(to),
        });
    Ok(owed.collect())
}

/// A delivery that a turn looks at.
#[derive(Queryable, Selectable)]
#[diesel(table_name = deliveries)]
struct Seen {
    id: Key,
    created_at: i64,
    state: String,
    activation: i64,
    origin: String,
}

fn advance(
    conn: &mut Conn,
    row: &ReplayRow,
    limit: usize,
    now: Timestamp,
) -> Result<ReplayStep, StoreError> {
    let filter = row.filter()?;
    let (is_active, activation, deleted_at): (bool, i64, Option<i64>) = subscriptions::table
        .find(row.subscription_id)
        .select((
            subscriptions::is_active,
            subscriptions::activation,
            subscriptions::deleted_at,
        ))
        .first(conn)?;
    let why = match (deleted_at, is_active) {
        (Some(_), _) => Some(ReplayEnded::SubscriptionDeleted),
        (None, false) => Some(ReplayEnded::SubscriptionInactive),
        (None, true) => None,
    };
    let seen = match why {
        Some(_) => Vec::new(),
        None => look(conn, row)?,
    };
    let Some(last) = seen.last() else {
        end(conn, row.id, why, now)?;
        rest(conn, row.id, None)?;
        return Ok(ReplayStep::Nothing);
    };
    let restart = Restart {
        cause: Cause::Replay,
        activation,
        from: filter.wanted.states(),
        now,
    };
    let mut wanted: Vec<&Seen> = seen
        .iter()
        .filter(|seen| is_wanted(seen, restart))
        .collect();
    if let Some(types) = &filter.event_types {
        let keys = wanted.iter().map(|seen| seen.id).collect();
        let of_types = of_types(conn, keys, types)?;
        wanted.retain(|seen| of_types.contains(&seen.id));
    }
    let cursor = match wanted.len() > limit {
        true => wanted[limit - 1],
        false => last,
    };
    let mut keys: Vec<Key> = wanted.iter().take(limit).map(|seen| seen.id).collect();
    keys.sort_unstable();
    let owed = again::restart_all(conn, &keys, restart)?;
    let started: Vec<u8> = owed
        .iter()
        .flat_map(|owed| *owed.delivery.0.as_bytes())
        .collect();
    diesel::update(replays::table.find(row.id))
        .set((
            replays::cursor_at.eq(cursor.created_at),
            replays::cursor_id.eq(cursor.id),
            replays::replayed.eq(replays::replayed + i64::try_from(owed.len()).unwrap_or(0)),
            replays::unconfirmed.eq(Some(started).filter(|ids| !ids.is_empty())),
        ))
        .execute(conn)?;
    if owed.is_empty() {
        rest(conn, row.id, Some(now))?;
        return Ok(ReplayStep::Nothing);
    }
    Ok(ReplayStep::HandOn(owed))
}

/// The turn is over, and nothing has to be handed on.
fn rest(conn: &mut Conn, id: Key, next: Option<Timestamp>) -> Result<(), StoreError> {
    diesel::update(replays::table.find(id))
        .set((
            replays::unconfirmed.eq(None::<Vec<u8>>),
            replays::next_turn.eq(next.map(Timestamp::unix_micros)),
        ))
        .execute(conn)?;
    Ok(())
}

/// The next rows, oldest first.
fn look(conn: &mut Conn, row: &ReplayRow) -> Result<Vec<Seen>, StoreError> {
    let (since, until) = span(&row.filter()?, Timestamp::from_unix_micros(row.created_at));
    let mut rows = deliveries::table
        .filter(deliveries::subscription_id.eq(row.subscription_id))
        .filter(deliveries::created_at.ge(since.max(row.cursor_at.unwrap_or(i64::MIN))))
        .filter(deliveries::created_at.lt(until))
        .order((deliveries::created_at, deliveries::id))
        .limit(ROWS_AT_ONCE)
        .select(Seen::as_select())
        .into_boxed();
    if let (Some(at), Some(id)) = (row.cursor_at, row.cursor_id) {
        rows = rows.filter(deliveries::created_at.gt(at).or(deliveries::id.gt(id)));
    }
    Ok(rows.load(conn)?)
}

/// Said again, for good, by the statement that starts it.
fn is_wanted(seen: &Seen, restart: Restart) -> bool {
    let void =
        restart.takes_void() && seen.state == "pending" && seen.activation != restart.activation;
    seen.origin == "event" && (restart.from.contains(&seen.state.as_str()) || void)
}

fn of_types(
    conn: &mut Conn,
    keys: Vec<Key>,
    types: &EventTypes,
) -> Result<HashSet<Key>, StoreError> {
    let names: Vec<&str> = types.iter().map(EventType::as_str).collect();
    let found: Vec<Key> = deliveries::table
        .inner_join(events::table)
        .filter(deliveries::id.eq_any(keys))
        .filter(events::event_type.eq_any(names))
        .select(deliveries::id)
        .load(conn)?;
    Ok(found.into_iter().collect())
}
