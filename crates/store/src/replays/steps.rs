//! Steps of replays. Any dispatcher leases the next replay for some seconds. One that freezes or dies delays the replay no
//! longer than that.
//!
//! The deliveries of a step, the cursor of the replay and the time of its next step are committed together. The
//! deliveries are due, so the owner of their partition finds them even if the dispatcher dies right after.
//!
//! A step looks at a limited number of rows in the order of creation, matching or not, so it is short also if few match.

use std::time::Duration;

use diesel::prelude::*;
use hookline_core::delivery::{AttemptTask, DeliveryKind, DeliveryState, StartedBy};
use hookline_core::ids::{DeliveryId, EventId, EventKey, ReplayId};
use hookline_core::replay::{ReplayFilter, ReplayStatus};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::backlog::BacklogClass;
use crate::columns::UuidKey;
use crate::deliveries::{Restart, RestartKey};
use crate::error::StoreError;
use crate::events::rows::{DeliverySpec, NewDelivery, new_delivery};
use crate::paging::RowPosition;
use crate::replays::plan::{MissingDeliveries, ReplaySource, ReplayTimes, ended_states};
use crate::replays::sql::{RUNNING, ReplayRow};
use crate::replays::{ReplayLease, ReplayPace};
use crate::rows::{corrupt, read_event_type};
use crate::schema::{deliveries, events, replays, subscriptions};
use crate::search::{FoundRow, SearchStep};

/// Rows that a step looks at.
const ROWS_AT_ONCE: i64 = 1_000;

/// The most steps of one replay in a second.
const STEPS_PER_SECOND: u32 = 4;

/// The rows that one step takes, and the place after them. None where there are no more rows.
fn taken(step: &SearchStep, per_second: u32) -> Option<(&[FoundRow], RowPosition)> {
    let limit = usize::try_from(per_second / STEPS_PER_SECOND)
        .unwrap_or(1)
        .max(1);
    match step.rows.split_at_checked(limit) {
        Some((taken @ [.., last], [_, ..])) => Some((taken, last.position())),
        _ => {
            let last = step.rows.last().map(|row| row.position());
            Some((&step.rows, step.end.or(last)?))
        }
    }
}

backends!(
    with {
        event_queries: crate::events,
        own: crate::replays,
        owned: crate::deliveries,
        plans: crate::replays::plan,
        replay_queries: crate::replays::sql,
        restart: crate::deliveries::restart,
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

    /// Makes the next deliveries due, as many as this pace allows in one step, and ends the lease. Nothing where the lease
    /// has expired or the replay has ended.
    pub(crate) fn step(
        conn: &mut Conn,
        lease: ReplayLease,
        pace: ReplayPace,
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
            row.map_or(Ok(Vec::new()), |row| advance(conn, &row, pace, now))
        })
    }

    fn advance(
        conn: &mut Conn,
        row: &ReplayRow,
        pace: ReplayPace,
        now: Timestamp,
    ) -> Result<Vec<AttemptTask>, StoreError> {
        let scope = row.scope()?;
        let times = ReplayTimes {
            now,
            made: Timestamp::from_unix_micros(row.created_at),
            kept: pace.kept,
        };
        let plan = match plans::plan(conn, &scope, times)? {
            Ok(plan) => plan,
            Err(why) => {
                end(conn, row.id, Some(why), now)?;
                return Ok(Vec::new());
            }
        };
        let range = match row.cursor_at.zip(row.cursor_id) {
            Some(place) => plan.range.behind(place),
            None => plan.range,
        };
        let step = plans::look(conn, &plan, range, plan.share(ROWS_AT_ONCE))?;
        let Some((rows, (cursor_at, cursor_id))) = taken(&step, pace.per_second) else {
            // The subscription may have been switched off or deleted since the plan was made.
            let why = plans::plan(conn, &scope, times)?.err();
            end(conn, row.id, why, now)?;
            return Ok(Vec::new());
        };
        let keys: Vec<UuidKey> = rows.iter().map(|row| row.id).collect();
        let tasks = match &plan.source {
            ReplaySource::Deliveries(_) => restart_some(conn, &keys, &scope.filter, now)?,
            ReplaySource::Missing(missing) => make(conn, &keys, missing, now)?,
        };
        let started = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        let next = now.after(Duration::from_secs(1) * started / pace.per_second.max(1));
        diesel::update(replays::table.find(row.id))
            .set((
                replays::cursor_at.eq(cursor_at),
                replays::cursor_id.eq(cursor_id),
                replays::replayed.eq(replays::replayed + i64::from(started)),
                replays::next_step_at.eq(next.unix_micros()),
            ))
            .execute(conn)?;
        Ok(tasks)
    }

    /// Restarts ended deliveries, and brings pending ones forward. The first statement locks all of these rows in the order
    /// of ids. The second finds none that the first has restarted: they are due.
    fn restart_some(
        conn: &mut Conn,
        keys: &[UuidKey],
        filter: &ReplayFilter,
        now: Timestamp,
    ) -> Result<Vec<AttemptTask>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let found: Vec<(UuidKey, i64)> = deliveries::table
            .inner_join(subscriptions::table)
            .filter(deliveries::id.eq_any(keys))
            .select((deliveries::id, subscriptions::activation))
            .load(conn)?;
        let keys = found.into_iter().map(|(delivery, activation)| RestartKey {
            delivery,
            activation,
        });
        let mut keys: Vec<RestartKey> = keys.collect();
        keys.sort_unstable();
        let restart = Restart {
            started_by: StartedBy::Replay,
            from: &ended_states(filter),
            now,
        };
        let mut tasks = restart::restart_all(conn, &keys, restart)?;
        if filter.statuses.contains(&ReplayStatus::Pending) {
            let keys: Vec<UuidKey> = keys.iter().map(|key| key.delivery).collect();
            let class = Some(BacklogClass::Replay);
            tasks.extend(owned::bring_forward(conn, &keys, now, class)?);
        }
        Ok(tasks)
    }

    /// Makes deliveries of these events as those of an inactive subscription are made, and restarts them. One that another
    /// replay has made meanwhile stays as it is: it is pending.
    fn make(
        conn: &mut Conn,
        keys: &[UuidKey],
        missing: &MissingDeliveries,
        now: Timestamp,
    ) -> Result<Vec<AttemptTask>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let found: Vec<(UuidKey, String, String)> = events::table
            .filter(events::key.eq_any(keys))
            .select((events::key, events::event_id, events::event_type))
            .load(conn)?;
        let mut rows: Vec<NewDelivery<'_>> = Vec::with_capacity(found.len());
        for (key, event, event_type) in found {
            let event = EventId::parse(event).map_err(|why| corrupt("event_id", why))?;
            let owner = &missing.organization;
            let spec = DeliverySpec {
                owner,
                to: missing.subscription,
                kind: DeliveryKind::Event,
                activation: missing.activation,
                state: DeliveryState::Skipped { at: now },
                event_type: read_event_type(&event_type)?,
            };
            let id = DeliveryId::of(owner, &event, missing.subscription);
            rows.push(new_delivery(id, EventKey(key.0), spec, now));
        }
        // Two replays that make the same deliveries wait for each other in one order.
        rows.sort_unstable_by_key(|row| row.id);
        event_queries::insert_fan_out(conn, &rows, &[])?;
        let keys = rows.iter().map(|row| RestartKey {
            delivery: row.id,
            activation: missing.activation,
        });
        let restart = Restart {
            started_by: StartedBy::Replay,
            from: &[Restart::VOID],
            now,
        };
        restart::restart_all(conn, &keys.collect::<Vec<_>>(), restart)
    }
);
