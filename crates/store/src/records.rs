//! What goes into a store and comes out of it.

use hookline_core::cursor::Cursor;
use hookline_core::ids::SubscriptionId;
use hookline_core::subscription::Subscription;

mod again;
mod backlog;
mod deliveries;
mod intake;
mod keys;
mod log;
mod partitions;
mod progress;
mod put_aside;
mod repeats;
mod replays;
mod secrets;

pub use again::Again;
pub(crate) use again::Restart;
pub use backlog::{
    BacklogClass, BacklogPosition, BacklogRead, BacklogRow, Backlogged, BreakerChange,
};
pub use deliveries::{
    Delivery, DeliveryQuery, DeliveryStatus, DeliveryStory, EventStory, Fate, FatePage,
    SubscriptionFate, WaitingFor,
};
pub(crate) use intake::Bounds;
pub use intake::{Given, IncomingEvent};
pub use keys::{KeyHash, KeyInfo, NewKey};
pub use log::{AttemptStatus, Excerpt, LogEntry, LogQuery, LoggedAttempt, LoggedError};
pub use partitions::{
    Beat, Due, HandOver, Holding, Look, LookInto, PartitionClaim, PartitionTotals,
    RegisteredDispatcher, Roster,
};
pub(crate) use progress::Standings;
pub use progress::{AttemptRecord, Body, Follow, Loaded, Owed, Source, Standing};
pub use put_aside::PutAside;
pub use repeats::{AnswerOf, Claim, Claimed, Digest, KeyedRequest, Making, Once, RequestDigests};
pub use replays::{
    NewReplay, Replay, ReplayEnded, ReplayScope, ReplayState, ReplayTurn, Replayable,
};
pub(crate) use secrets::MasterKeyProof;
pub use secrets::{Resealed, Rotated, Rotation};

/// What came of creating a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// This one.
    Subscription(Subscription),
    /// The organization has as many as it may.
    LimitReached,
}

/// Which of an organization's subscriptions, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How many at most.
    pub limit: u32,
    /// How many to pass over.
    pub offset: u64,
    /// Those that are older than this one alone.
    pub before: Option<SubscriptionId>,
}

/// Rows of a long list, and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T, Total> {
    /// The rows asked for. There may be fewer, also none, where most of the rows that were looked at do not match.
    pub rows: Vec<T>,
    /// How many there are without a limit.
    pub total: Total,
    /// Where the search ended before it found as many rows as were asked for; none at the end of the list.
    pub searched: Option<Cursor>,
}

/// Where a page of a long list begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageStart {
    /// After this many of the newest.
    Offset(u64),
    /// After this row: as fast on the last page as on the first.
    Cursor(Cursor),
}
