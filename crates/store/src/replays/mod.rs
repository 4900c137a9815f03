//! Replays: restarts of many deliveries of a subscription, in steps.

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::{OrganizationId, ReplayId, SubscriptionId};
use hookline_core::replay::ReplayFilter;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::idempotency::Creation;
use crate::paging::cursor;
use crate::store::{Store, run};

pub(crate) mod postgres;
pub(crate) mod sql;
pub(crate) mod sqlite;
pub(crate) mod steps;

#[derive(Debug, Clone)]
pub struct ReplayScope {
    pub organization: OrganizationId,
    pub subscription: SubscriptionId,
    pub filter: ReplayFilter,
}

#[derive(Debug, Clone)]
pub struct NewReplay {
    pub id: ReplayId,
    pub scope: ReplayScope,
    /// The number of deliveries that were counted.
    pub expected: u64,
    /// The limit of running replays of the organization.
    pub max_running: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayOutcome {
    Deliveries(u64),
    /// The organization has no such subscription.
    Unknown,
    /// The subscription is inactive, so nothing would be sent.
    Inactive,
    /// The organization is at its limit of running replays.
    TooMany,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    pub id: ReplayId,
    pub subscription: SubscriptionId,
    pub filter: ReplayFilter,
    pub state: ReplayState,
    /// The number of deliveries at its start.
    pub expected: u64,
    /// The number of deliveries restarted so far.
    pub replayed: u64,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayState {
    Running,
    Finished { at: Timestamp },
    Cancelled { at: Timestamp, why: ReplayEndReason },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum ReplayEndReason {
    /// By a user.
    Requested,
    SubscriptionInactive,
    SubscriptionDeleted,
}

impl ReplayEndReason {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The lease of a replay for one step. No other dispatcher gets one until it ends or expires; an expired lease writes
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayLease {
    pub replay: ReplayId,
    pub(crate) number: i64,
}

impl Store {
    /// The number of deliveries that a replay would restart now.
    pub async fn count_replay(
        &self,
        scope: ReplayScope,
        now: Timestamp,
    ) -> Result<ReplayOutcome, StoreError> {
        let (mut total, mut after) = (0, None);
        loop {
            let scope = scope.clone();
            let (counted, end) = run!(self, read, |conn, q: sql| q::count(
                conn, &scope, now, after
            ))?;
            let ReplayOutcome::Deliveries(count) = counted else {
                return Ok(counted);
            };
            total += count;
            let Some(end) = end else {
                return Ok(ReplayOutcome::Deliveries(total));
            };
            after = Some(cursor(end));
        }
    }

    pub async fn start_replay(
        &self,
        new: NewReplay,
        making: impl Into<Creation<ReplayOutcome>>,
    ) -> Result<ReplayOutcome, StoreError> {
        let Creation { now, once } = making.into();
        let once = self.sealing(once)?;
        run!(self, write, |conn,
                           idempotency: crate::idempotency::sql,
                           q: sql| {
            idempotency::once(conn, once, |conn| q::start(conn, &new, now))
        })
    }

    pub async fn replay(
        &self,
        owner: OrganizationId,
        id: ReplayId,
    ) -> Result<Option<Replay>, StoreError> {
        run!(self, read, |conn, q: sql| q::find(conn, &owner, id))
    }

    /// False when the organization has no such replay.
    pub async fn cancel_replay(
        &self,
        owner: OrganizationId,
        id: ReplayId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        run!(self, write, |conn, q: sql| q::cancel(conn, &owner, id, now))
    }

    /// Leases the replay that has waited longest until `until`, if one is due.
    pub async fn lease_replay(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<ReplayLease>, StoreError> {
        // A read first: almost always no replay is due, and the writer is spared.
        if !run!(self, read, |conn, q: steps| q::is_due(conn, now))? {
            return Ok(None);
        }
        run!(self, write, |conn, q: steps| q::lease(conn, now, until))
    }

    /// Restarts the next deliveries at the rate `per_second` and ends the lease. Answers with the attempts that are due.
    pub async fn replay_step(
        &self,
        lease: ReplayLease,
        per_second: u32,
        now: Timestamp,
    ) -> Result<Vec<AttemptTask>, StoreError> {
        run!(self, write, |conn, q: steps| q::step(
            conn, lease, per_second, now
        ))
    }

    /// Forgets replays that ended before `cutoff`.
    pub async fn forget_replays(&self, cutoff: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::forget(conn, cutoff))
    }
}
