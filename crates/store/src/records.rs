//! What goes into a store and comes out of it.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use hookline_core::access::Scope;
use hookline_core::cursor::Cursor;
use hookline_core::delivery::{DeliveryState, GaveUp, Origin, OwedAttempt, Run, Trigger};
use hookline_core::event::Event;
use hookline_core::event_type::EventType;
use hookline_core::ids::{
    AttemptId, DeliveryId, EventId, EventKey, KeyId, OrganizationId, SubscriptionId,
};
use hookline_core::outcome::{FailureKind, Outcome};
use hookline_core::secret::Secret;
use hookline_core::subscription::Subscription;
use hookline_core::target::TargetUrl;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use ring::digest;

use crate::credentials::SealedCredentials;
use crate::sealed::Unopened;

mod again;
mod deliveries;
mod replays;

pub use again::Again;
pub(crate) use again::Restart;
pub use deliveries::{
    Delivery, DeliveryQuery, DeliveryStatus, DeliveryStory, EventStory, Fate, SubscriptionFate,
};
pub use replays::{
    NewReplay, Replay, ReplayEnded, ReplayScope, ReplayState, ReplayStep, ReplayTurn, Replayable,
};

/// The SHA-256 of an API key: all that a store ever sees of it. A key has 256 random bits, so a
/// fast hash is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub(crate) [u8; 32]);

impl KeyHash {
    /// The hash of a key as its bearer presents it.
    pub fn of(key: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
        Self(hash)
    }

    /// Whether it is this one, which takes the same time whatever differs.
    pub(crate) fn is(&self, stored: &[u8]) -> bool {
        let differing = self.0.iter().zip(stored).fold(0, |so_far, (ours, theirs)| {
            std::hint::black_box(so_far | (ours ^ theirs))
        });
        stored.len() == self.0.len() && differing == 0
    }
}

/// A key that is to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What its bearer will present, hashed.
    pub hash: KeyHash,
    /// What its owner calls it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// The organization of a request that names none.
    pub default_organization: OrganizationId,
    /// The further organizations that it belongs to.
    pub organizations: Vec<OrganizationId>,
    /// From when on it no longer works; never without one.
    pub expires_at: Option<Timestamp>,
}

/// A key in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its number, for revoking it.
    pub id: KeyId,
    /// What its owner calls it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// The organization of a request that names none.
    pub default_organization: OrganizationId,
    /// Since when there is one.
    pub created_at: Timestamp,
    /// Since when it no longer works, because somebody ended it.
    pub revoked_at: Option<Timestamp>,
    /// From when on it no longer works by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// What came of creating a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// This one.
    Subscription(Subscription),
    /// The organization has as many as it may.
    LimitReached,
}

/// Which rows of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// How many at most; all without one.
    pub limit: Option<u32>,
    /// How many to pass over.
    pub offset: u64,
}

/// Rows and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// The rows asked for.
    pub rows: Vec<T>,
    /// How many there are without a window.
    pub total: u64,
}

/// Where a page of a long list begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageStart {
    /// After this many of the newest.
    Offset(u64),
    /// After this row: as fast on the last page as on the first.
    Cursor(Cursor),
}

/// Whether an attempt reached its aim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttemptStatus {
    /// A 2xx.
    Success,
    /// Anything else.
    Failed,
}

impl AttemptStatus {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptStatus::Success => "success",
            AttemptStatus::Failed => "failed",
        }
    }

    /// The status of this name, if it is one.
    pub fn parse(name: &str) -> Option<Self> {
        [AttemptStatus::Success, AttemptStatus::Failed]
            .into_iter()
            .find(|status| status.as_str() == name)
    }
}

/// Which part of the log.
#[derive(Debug, Clone)]
pub struct LogQuery {
    /// Whose.
    pub organization: OrganizationId,
    /// Of one subscription alone.
    pub subscription: Option<SubscriptionId>,
    /// Of one type alone.
    pub event_type: Option<EventType>,
    /// Of one status alone.
    pub status: Option<AttemptStatus>,
    /// How many at most.
    pub limit: u32,
    /// Where to begin.
    pub start: PageStart,
}

/// One attempt in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its id.
    pub id: AttemptId,
    /// The delivery it belongs to.
    pub delivery_id: DeliveryId,
    /// The subscription it was for.
    pub subscription_id: SubscriptionId,
    /// The event it carried.
    pub event_id: EventId,
    /// That event's type.
    pub event_type: EventType,
    /// Its number, from 1.
    pub attempt: u32,
    /// Why it was made.
    pub trigger: Trigger,
    /// Whether it reached its aim.
    pub status: AttemptStatus,
    /// Where it went.
    pub url: String,
    /// What it carried.
    pub request_body: String,
    /// The answer's status.
    pub response_status: Option<u16>,
    /// The beginning of the answer.
    pub response_body: Option<String>,
    /// What went wrong.
    pub error: Option<LoggedError>,
    /// How long it took.
    pub duration_ms: u64,
    /// When it began.
    pub created_at: Timestamp,
    /// When the next one was due, as decided then.
    pub next_attempt_at: Option<Timestamp>,
}

impl LogEntry {
    /// Its place in the log.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.0,
        }
    }
}

/// What went wrong with an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedError {
    /// For programs.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
}

/// An event on its way in.
#[derive(Debug, Clone)]
pub struct IncomingEvent {
    /// The event.
    pub event: Event,
    /// The publisher's trace.
    pub trace: Option<TraceParent>,
    /// Whether it is on its way for the first time.
    pub passage: Passage,
}

/// Whether an event is on its way for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// As far as anybody knows.
    First,
    /// Somebody had it in hand, who may have died between taking it in and handing it on.
    Again,
}

/// What was taken in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// How many events had not been seen before.
    pub new_events: usize,
    /// The first attempts to hand on: of new events, and of those that pass again.
    pub owed: Vec<OwedAttempt>,
}

/// A delivery with all that an attempt needs but the body.
#[derive(Debug, Clone)]
pub struct Owed {
    /// Which run through the schedule.
    pub generation: u32,
    /// How many attempts were made.
    pub attempts: u32,
    /// Who began this run, and after how many attempts.
    pub run: Run,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why it exists.
    pub origin: Origin,
    /// Where its body is.
    pub event: EventKey,
    /// Its event's type.
    pub event_type: EventType,
    /// Whose it is.
    pub organization: OrganizationId,
    /// Whom it is for.
    pub subscription: SubscriptionId,
    /// Whether its subscription still gets it.
    pub standing: Standing,
    /// Where it goes, as the subscription is now.
    pub url: TargetUrl,
    /// What signs it and goes with it: [`Store::open`](crate::Store::open) knows.
    pub sealed: SealedCredentials,
}

/// Whether a subscription still gets a delivery that was made for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Active,
    /// It is switched off, or was since then.
    Inactive,
    /// It is no more.
    Deleted,
}

/// What decides on a [`Standing`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standings {
    pub(crate) origin: Origin,
    /// The subscription's activation when the delivery was made.
    pub(crate) made_in: i64,
    /// The subscription's activation now.
    pub(crate) activation: i64,
    pub(crate) is_active: bool,
    pub(crate) is_deleted: bool,
}

impl From<Standings> for Standing {
    fn from(now: Standings) -> Self {
        match now.origin {
            _ if now.is_deleted => Standing::Deleted,
            Origin::Test => Standing::Active,
            Origin::Event if now.is_active && now.activation == now.made_in => Standing::Active,
            Origin::Event => Standing::Inactive,
        }
    }
}

/// What every request of an event carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The bytes that are signed and sent.
    pub bytes: Bytes,
    /// The publisher's trace.
    pub trace: Option<TraceParent>,
}

/// What is known of deliveries, and the bodies of some of their events.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The deliveries that are there.
    pub owed: HashMap<DeliveryId, Owed>,
    /// The bodies that were asked for.
    pub bodies: HashMap<EventKey, Body>,
}

/// An attempt that was made, and what follows.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// Which attempt.
    pub owed: OwedAttempt,
    /// Why its delivery exists.
    pub origin: Origin,
    /// The run that it belongs to.
    pub run: Run,
    /// Whose it is.
    pub organization: OrganizationId,
    /// Whom it was for.
    pub subscription: SubscriptionId,
    /// What it carried.
    pub event: EventKey,
    /// That event's type.
    pub event_type: EventType,
    /// Where it went.
    pub url: TargetUrl,
    /// What came of it.
    pub outcome: Outcome,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Where the delivery stands now.
    pub follow: Follow,
}

/// Where a delivery goes from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// The receiver has it.
    Delivered,
    /// Another attempt is owed then.
    Again {
        /// When.
        due: Timestamp,
    },
    /// No further attempt.
    Exhausted(GaveUp),
}

/// What a sweep found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// To hand on again.
    pub again: Vec<OwedAttempt>,
    /// Were handed on again as often as that is done, and nothing ever came of it: they have ended
    /// as poison.
    pub given_up: Vec<DeliveryId>,
}

/// How a reconciler sweeps.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    /// How long after it was due an attempt counts as overdue; twice as long each time that it was
    /// handed on again.
    pub grace: Duration,
    /// How many at most.
    pub limit: u32,
}

/// What proves that a master key is the one of its id.
#[derive(Debug, Clone)]
pub(crate) struct MasterKeyProof {
    pub(crate) id: String,
    pub(crate) proof: Vec<u8>,
}

/// What a step of a rekey did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resealed {
    /// How many subscriptions it dealt with.
    pub subscriptions: usize,
    /// Those with something that could not be opened, by id; it stays as it is.
    pub unopened: Vec<(i64, Unopened)>,
    /// The last one that it looked at, or none when there was nothing left to do.
    pub last: Option<i64>,
}

/// A secret that is to take the place of the present one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The next one.
    pub secret: Secret,
    /// How long the present one signs, too.
    pub overlap: Duration,
}

/// What a rotation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// Until when the secret before signs, too; none if there was none, or no overlap.
    pub previous_valid_until: Option<Timestamp>,
}
