//! Replays: what was asked for, how far they are, and turns at them.

use hookline_core::ids::{OrganizationId, ReplayId, SubscriptionId};
use hookline_core::replay::ReplayFilter;
use hookline_core::timestamp::Timestamp;

/// What somebody wants to be replayed.
#[derive(Debug, Clone)]
pub struct ReplayScope {
    /// Whose.
    pub organization: OrganizationId,
    /// To whom.
    pub subscription: SubscriptionId,
    /// Which of its deliveries.
    pub filter: ReplayFilter,
}

/// A replay that is to be made.
#[derive(Debug, Clone)]
pub struct NewReplay {
    /// Its id.
    pub id: ReplayId,
    /// What is replayed.
    pub scope: ReplayScope,
    /// How many deliveries were counted.
    pub expected: u64,
    /// How many replays its organization may have running.
    pub max_running: u32,
}

/// What came of counting or making a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayable {
    /// So many deliveries.
    Deliveries(u64),
    /// The organization has no such subscription.
    Unknown,
    /// The subscription is inactive, so nothing would be sent.
    Inactive,
    /// The organization has as many running as it may.
    TooMany,
}

/// A replay, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// Whose deliveries.
    pub subscription: SubscriptionId,
    /// Which of them.
    pub filter: ReplayFilter,
    /// Where it stands.
    pub state: ReplayState,
    /// How many deliveries there were when it was made.
    pub expected: u64,
    /// How many were started again so far.
    pub replayed: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Where a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayState {
    /// There is more to do.
    Running,
    /// Every delivery has had its turn.
    Finished {
        /// Since when.
        at: Timestamp,
    },
    /// It ended before its end.
    Cancelled {
        /// Since when.
        at: Timestamp,
        /// Why.
        why: ReplayEnded,
    },
}

/// Why a replay ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayEnded {
    /// Somebody asked for it.
    Requested,
    /// Its subscription was switched off.
    SubscriptionInactive,
    /// Its subscription was deleted.
    SubscriptionDeleted,
}

impl ReplayEnded {
    const ALL: [Self; 3] = [
        Self::Requested,
        Self::SubscriptionInactive,
        Self::SubscriptionDeleted,
    ];

    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            ReplayEnded::Requested => "requested",
            ReplayEnded::SubscriptionInactive => "subscription_inactive",
            ReplayEnded::SubscriptionDeleted => "subscription_deleted",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.as_str() == name)
    }
}

/// A turn at a replay. Nobody else takes one until it is over or its time has passed; then it is
/// void, and so is whatever is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayTurn {
    /// At which one.
    pub replay: ReplayId,
    /// Which turn.
    pub(crate) number: i64,
}
