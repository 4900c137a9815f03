//! Replays, for the API that starts them and the dispatchers that make them.

use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::{OrganizationId, ReplayId};
use hookline_core::timestamp::Timestamp;

use super::searching::cursor;
use super::{Home, Store, run};
use crate::error::StoreError;
use crate::records::{Making, NewReplay, Replay, ReplayScope, ReplayTurn, Replayable};
use crate::{postgres, sqlite};

impl Store {
    /// How many deliveries a replay would start again that is made now.
    pub async fn count_replay(
        &self,
        scope: ReplayScope,
        now: Timestamp,
    ) -> Result<Replayable, StoreError> {
        let (mut total, mut after) = (0, None);
        loop {
            let scope = scope.clone();
            let (counted, end) = run!(self, read, |conn, q| q::replays::count(
                conn, &scope, now, after
            ))?;
            let Replayable::Deliveries(count) = counted else {
                return Ok(counted);
            };
            total += count;
            let Some(end) = end else {
                return Ok(Replayable::Deliveries(total));
            };
            after = Some(cursor(end));
        }
    }

    /// Makes a replay, of which dispatchers take turns from now on.
    pub async fn start_replay(
        &self,
        new: NewReplay,
        making: impl Into<Making<Replayable>>,
    ) -> Result<Replayable, StoreError> {
        let Making { now, once } = making.into();
        run!(self, write, |conn, q| q::repeats::once(
            conn,
            once,
            |conn| { q::replays::start(conn, &new, now) }
        ))
    }

    /// One of an organization's replays.
    pub async fn replay(
        &self,
        owner: OrganizationId,
        id: ReplayId,
    ) -> Result<Option<Replay>, StoreError> {
        run!(self, read, |conn, q| q::replays::find(conn, &owner, id))
    }

    /// Ends one of an organization's replays, if it is running; false when there is none.
    pub async fn cancel_replay(
        &self,
        owner: OrganizationId,
        id: ReplayId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        run!(self, write, |conn, q| q::replays::cancel(
            conn, &owner, id, now
        ))
    }

    /// Takes the turn at a replay that has waited longest, if one is due. Until `until` no
    /// other dispatcher takes it.
    pub async fn take_replay_turn(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<ReplayTurn>, StoreError> {
        // To ask costs a writer nothing while there is none, as almost always.
        if !run!(self, read, |conn, q| q::replaying::is_due(conn, now))? {
            return Ok(None);
        }
        run!(self, write, |conn, q| q::replaying::take_turn(
            conn, now, until
        ))
    }

    /// Starts the replay's next deliveries again, so many in a second, and ends the turn. Answers with what is due now.
    pub async fn replay_step(
        &self,
        turn: ReplayTurn,
        per_second: u32,
        now: Timestamp,
    ) -> Result<Vec<OwedAttempt>, StoreError> {
        run!(self, write, |conn, q| q::replaying::step(
            conn, turn, per_second, now
        ))
    }

    /// Forgets replays that ended before `cutoff`.
    pub async fn forget_replays(&self, cutoff: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::replays::forget(conn, cutoff))
    }
}
