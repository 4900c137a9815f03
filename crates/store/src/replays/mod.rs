//! Replays: many deliveries restart, are brought forward or are made, in steps. One replay is for a subscription or for an
//! organization.

use std::sync::Arc;
use std::time::Duration;

use hookline_core::cursor::Cursor;
use hookline_core::delivery::AttemptTask;
use hookline_core::ids::{OrganizationId, ReplayId, SubscriptionId};
use hookline_core::replay::ReplayFilter;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::idempotency::Creation;
use crate::paging::{PageStart, ResultPage};
use crate::replays::plan::ReplayTimes;
use crate::store::{Store, run};

pub(crate) mod plan;
pub(crate) mod postgres;
pub(crate) mod sql;
pub(crate) mod sqlite;
pub(crate) mod steps;

/// Rows that a step of a count looks at.
const COUNTED_AT_ONCE: i64 = 8_192;

#[derive(Debug, Clone)]
pub struct ReplayScope {
    pub organization: OrganizationId,
    pub target: ReplayTarget,
    pub filter: ReplayFilter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayTarget {
    /// Deliveries of the organization, except those of inactive subscriptions.
    Organization,
    /// Deliveries of a subscription.
    Subscription(SubscriptionId),
    /// Stored events without a delivery to this subscription, of types that it selects now.
    Missing(SubscriptionId),
}

impl ReplayTarget {
    pub fn subscription(self) -> Option<SubscriptionId> {
        match self {
            ReplayTarget::Organization => None,
            ReplayTarget::Subscription(id) | ReplayTarget::Missing(id) => Some(id),
        }
    }
}

/// How fast a replay goes, and how far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayPace {
    /// Deliveries in a second, from 1.
    pub per_second: u32,
    /// The retention of events.
    pub kept: Duration,
}

#[derive(Debug, Clone)]
pub struct ReplayQuery {
    pub organization: OrganizationId,
    pub subscription: Option<SubscriptionId>,
    pub limit: u32,
    pub start: PageStart,
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
    pub target: ReplayTarget,
    pub filter: ReplayFilter,
    pub state: ReplayState,
    /// The number of deliveries at its start.
    pub expected: u64,
    /// The number of deliveries that are due because of it, so far.
    pub replayed: u64,
    pub created_at: Timestamp,
}

impl Replay {
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.0,
        }
    }
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
    /// The number of deliveries that a replay would make due now. `kept` is the retention of events.
    pub async fn count_replay(
        &self,
        scope: ReplayScope,
        now: Timestamp,
        kept: Duration,
    ) -> Result<ReplayOutcome, StoreError> {
        let times = ReplayTimes {
            now,
            made: now,
            kept,
        };
        let plan = match run!(self, read, |conn, q: plan| q::plan(conn, &scope, times))? {
            Ok(plan) => Arc::new(plan),
            Err(ReplayEndReason::SubscriptionInactive) => return Ok(ReplayOutcome::Inactive),
            Err(_) => return Ok(ReplayOutcome::Unknown),
        };
        let (mut range, share) = (plan.range, plan.share(COUNTED_AT_ONCE));
        let mut total = 0;
        loop {
            let counting = Arc::clone(&plan);
            let step = run!(self, read, |conn, q: plan| q::look(
                conn, &counting, range, share
            ))?;
            total += step.rows.len() as u64;
            match step.end {
                Some(end) => range = range.behind(end),
                None => return Ok(ReplayOutcome::Deliveries(total)),
            }
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

    /// Newest first. The total is none above 10,000.
    pub async fn replays(
        &self,
        query: ReplayQuery,
    ) -> Result<ResultPage<Replay, Option<u64>>, StoreError> {
        run!(self, read, |conn, q: sql| q::list(conn, &query))
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

    /// Makes the next deliveries due and ends the lease. Answers with the attempts that are due.
    pub async fn replay_step(
        &self,
        lease: ReplayLease,
        pace: ReplayPace,
        now: Timestamp,
    ) -> Result<Vec<AttemptTask>, StoreError> {
        run!(self, write, |conn, q: steps| q::step(
            conn, lease, pace, now
        ))
    }

    /// Forgets replays that ended before `cutoff`.
    pub async fn forget_replays(&self, cutoff: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::forget(conn, cutoff))
    }
}
