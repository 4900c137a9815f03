//! Steps of replays. Any dispatcher leases the next replay for some seconds. One that freezes or dies delays the replay no
//! longer than that.
//!
//! The restarted deliveries, the cursor of the replay and the time of its next step are committed together. The
//! deliveries are due, so the owner of their partition finds them even if the dispatcher dies right after.
//!
//! A step looks at a limited number of rows in the order of creation, matching or not, so it is short also if few match.

use std::collections::HashSet;
use std::time::Duration;

use diesel::prelude::*;
use hookline_core::delivery::{AttemptTask, StartedBy};
use hookline_core::event_type::{EventType, EventTypes};
use hookline_core::ids::ReplayId;
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::deliveries::{Restart, RestartKey};
use crate::error::StoreError;
use crate::replays::sql::{RUNNING, ReplayRow, span};
use crate::replays::{ReplayEndReason, ReplayLease};
use crate::schema::{deliveries, events, replays, subscriptions};

/// Rows that a step looks at.
const ROWS_AT_ONCE: i64 = 1_000;

/// The most steps of one replay in a second.
const STEPS_PER_SECOND: u32 = 4;

/// A delivery that a step looks at.
#[derive(Queryable, Selectable)]
#[diesel(table_name = deliveries)]
struct ReplayCandidate {
    id: UuidKey,
    created_at: i64,
    state: String,
    activation: i64,
    origin: String,
}

/// The statement that restarts the delivery checks this again, under its lock.
fn is_wanted(seen: &ReplayCandidate, restart: Restart, activation: i64) -> bool {
    let void = restart.takes_void() && seen.state == "pending" && seen.activation != activation;
    seen.origin == "event" && (restart.from.contains(&seen.state.as_str()) || void)
}

backends!(
    with {
        replay_queries: crate::replays::sql,
        restart: crate::deliveries::restart,
        own: crate::replays,
    }

    use backend::Conn;
    use replay_queries::end;

    pub(crate) fn is_due(conn: &mut Conn, now: Timestamp) -> Result<bool, StoreError> {
        let due = replays::table.filter(replays::next_step_at.le(now.unix_micros()));
        Ok(diesel::select(diesel::dsl::exists(due)).get_result(conn)?)
    }

    /// The replay that has waited longest.
    pub(crate) fn lease(
        conn: &mut Conn,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<ReplayLease>, StoreError> {
        conn.transaction(|conn| {
            let Some(id) = own::due_replay(conn, now)? else {
                return Ok(None);
            };
            let number = diesel::update(replays::table.find(id))
                .set((
                    replays::lease.eq(replays::lease + 1),
                    replays::next_step_at.eq(until.unix_micros()),
                ))
                .returning(replays::lease)
                .get_result(conn)?;
            Ok(Some(ReplayLease {
                replay: ReplayId(id.0),
                number,
            }))
        })
    }

    /// Restarts the next deliveries, as many as this rate allows in one step, and ends the lease. Nothing where the lease has
    /// expired or the replay has ended.
    pub(crate) fn step(
        conn: &mut Conn,
        lease: ReplayLease,
        per_second: u32,
        now: Timestamp,
    ) -> Result<Vec<AttemptTask>, StoreError> {
        conn.transaction(|conn| {
            // A no-op UPDATE locks the row.
            let row: Option<ReplayRow> =
                diesel::update(replays::table.find(UuidKey(lease.replay.0)))
                    .filter(replays::lease.eq(lease.number))
                    .filter(replays::state.eq(RUNNING))
                    .set(replays::lease.eq(lease.number))
                    .returning(ReplayRow::as_returning())
                    .get_result(conn)
                    .optional()?;
            row.map_or(Ok(Vec::new()), |row| advance(conn, &row, per_second, now))
        })
    }

    fn advance(
        conn: &mut Conn,
        row: &ReplayRow,
        per_second: u32,
        now: Timestamp,
    ) -> Result<Vec<AttemptTask>, StoreError> {
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
            (Some(_), _) => Some(ReplayEndReason::SubscriptionDeleted),
            (None, false) => Some(ReplayEndReason::SubscriptionInactive),
            (None, true) => None,
        };
        let seen = match why {
            Some(_) => Vec::new(),
            None => look(conn, row)?,
        };
        let Some(last) = seen.last() else {
            end(conn, row.id, why, now)?;
            return Ok(Vec::new());
        };
        let restart = Restart {
            started_by: StartedBy::Replay,
            from: filter.wanted.states(),
            now,
        };
        let mut wanted: Vec<&ReplayCandidate> = seen
            .iter()
            .filter(|seen| is_wanted(seen, restart, activation))
            .collect();
        if let Some(types) = &filter.event_types {
            let keys = wanted.iter().map(|seen| seen.id).collect();
            let of_types = of_types(conn, keys, types)?;
            wanted.retain(|seen| of_types.contains(&seen.id));
        }
        let limit = usize::try_from(per_second / STEPS_PER_SECOND)
            .unwrap_or(1)
            .max(1);
        let cursor = match wanted.len() > limit {
            true => wanted[limit - 1],
            false => last,
        };
        let mut keys: Vec<RestartKey> = wanted
            .iter()
            .take(limit)
            .map(|seen| RestartKey {
                delivery: seen.id,
                activation,
            })
            .collect();
        keys.sort_unstable();
        let tasks = restart::restart_all(conn, &keys, restart)?;
        let started = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        let next = now.after(Duration::from_secs(1) * started / per_second.max(1));
        diesel::update(replays::table.find(row.id))
            .set((
                replays::cursor_at.eq(cursor.created_at),
                replays::cursor_id.eq(cursor.id),
                replays::replayed.eq(replays::replayed + i64::from(started)),
                replays::next_step_at.eq(next.unix_micros()),
            ))
            .execute(conn)?;
        Ok(tasks)
    }

    /// Oldest first.
    fn look(conn: &mut Conn, row: &ReplayRow) -> Result<Vec<ReplayCandidate>, StoreError> {
        let (since, until) = span(&row.filter()?, Timestamp::from_unix_micros(row.created_at));
        let mut rows = deliveries::table
            .filter(deliveries::subscription_id.eq(row.subscription_id))
            .filter(deliveries::created_at.ge(since.max(row.cursor_at.unwrap_or(i64::MIN))))
            .filter(deliveries::created_at.lt(until))
            .order((deliveries::created_at, deliveries::id))
            .limit(ROWS_AT_ONCE)
            .select(ReplayCandidate::as_select())
            .into_boxed();
        if let (Some(at), Some(id)) = (row.cursor_at, row.cursor_id) {
            rows = rows.filter(deliveries::created_at.gt(at).or(deliveries::id.gt(id)));
        }
        Ok(rows.load(conn)?)
    }

    fn of_types(
        conn: &mut Conn,
        keys: Vec<UuidKey>,
        types: &EventTypes,
    ) -> Result<HashSet<UuidKey>, StoreError> {
        let names: Vec<&str> = types.iter().map(EventType::as_str).collect();
        let found: Vec<UuidKey> = deliveries::table
            .inner_join(events::table)
            .filter(deliveries::id.eq_any(keys))
            .filter(events::event_type.eq_any(names))
            .select(deliveries::id)
            .load(conn)?;
        Ok(found.into_iter().collect())
    }
);
