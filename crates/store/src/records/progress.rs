//! Deliveries that are owed, and what comes of them.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use hookline_core::delivery::{DeliveryState, GaveUp, Origin, OwedAttempt, Run};
use hookline_core::event_type::EventType;
use hookline_core::ids::{DeliveryId, EventKey, OrganizationId, SubscriptionId};
use hookline_core::outcome::Outcome;
use hookline_core::target::TargetUrl;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;

use super::BacklogClass;
use crate::credentials::SealedCredentials;

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
    /// Its class where it is in the backlog.
    pub backlog: Option<BacklogClass>,
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
    /// Its subscription's activation, as it is now.
    pub activation: i64,
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
    /// The subscription's activation when it was made. What it says of the receiver holds for this
    /// activation and this URL alone.
    pub activation: i64,
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

/// The event that a delivery was made for, for a log line: as the store holds it, and not validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The organization's id.
    pub organization: String,
    /// The subscription's id.
    pub subscription: SubscriptionId,
    /// The event's id. `None` where the event is no longer stored.
    pub event: Option<String>,
}
