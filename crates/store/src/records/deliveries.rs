//! What became of events: deliveries as their owner sees them.

use hookline_core::cursor::Cursor;
use hookline_core::delivery::{GaveUp, Origin};
use hookline_core::event_type::EventType;
use hookline_core::ids::{DeliveryId, EventId, OrganizationId, SubscriptionId};
use hookline_core::subscription::SubscriptionName;
use hookline_core::timestamp::Timestamp;

use super::{LoggedAttempt, PageStart};

/// Where a delivery stands for its owner. The store notes that a delivery is void only when its
/// turn comes; its owner need not wait for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeliveryStatus {
    /// An attempt is owed.
    Pending,
    /// The receiver has it.
    Delivered,
    /// No further attempt is made.
    Exhausted,
    /// Its subscription was inactive, or was switched off before its turn came.
    Skipped,
    /// Its subscription was deleted before its turn came.
    Cancelled,
}

impl DeliveryStatus {
    const ALL: [Self; 5] = [
        Self::Pending,
        Self::Delivered,
        Self::Exhausted,
        Self::Skipped,
        Self::Cancelled,
    ];

    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryStatus::Pending => "pending",
            DeliveryStatus::Delivered => "delivered",
            DeliveryStatus::Exhausted => "exhausted",
            DeliveryStatus::Skipped => "skipped",
            DeliveryStatus::Cancelled => "cancelled",
        }
    }

    /// The status of this name, if it is one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// What a pending delivery waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor {
    /// The moment of its next attempt.
    Retry,
    /// Its receiver has failed again and again, and gets one request now and then until one succeeds.
    Breaker,
    /// A request to its receiver has to end first.
    Concurrency,
}

impl WaitingFor {
    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitingFor::Retry => "retry",
            WaitingFor::Breaker => "breaker",
            WaitingFor::Concurrency => "concurrency",
        }
    }
}

/// Which of a subscription's deliveries.
#[derive(Debug, Clone)]
pub struct DeliveryQuery {
    /// Whose.
    pub organization: OrganizationId,
    /// To whom.
    pub subscription: SubscriptionId,
    /// Of one status alone.
    pub status: Option<DeliveryStatus>,
    /// Of one type alone.
    pub event_type: Option<EventType>,
    /// Made then or later.
    pub since: Option<Timestamp>,
    /// Made before then.
    pub until: Option<Timestamp>,
    /// How many at most.
    pub limit: u32,
    /// Where to begin.
    pub start: PageStart,
}

impl DeliveryQuery {
    /// Whether it asks for more than an age, which is all that the index knows.
    pub(crate) fn is_filtered(&self) -> bool {
        self.status.is_some() || self.event_type.is_some()
    }
}

/// A delivery as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// The subscription it is for.
    pub subscription: SubscriptionId,
    /// The event it carries.
    pub event_id: EventId,
    /// That event's type.
    pub event_type: EventType,
    /// Why it exists.
    pub origin: Origin,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// How many attempts were made.
    pub attempts_made: u32,
    /// When the next one is due.
    pub next_attempt_at: Option<Timestamp>,
    /// What a pending delivery waits for; none where its attempt is about to be made.
    pub waiting_for: Option<WaitingFor>,
    /// Since when there is one.
    pub created_at: Timestamp,
    /// Since when there is no more to do; none also while the store has yet to note it.
    pub finished_at: Option<Timestamp>,
    /// Why no further attempt is made.
    pub gave_up: Option<GaveUp>,
}

impl Delivery {
    /// Its place in the list.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.0,
        }
    }
}

/// A delivery and its part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryStory {
    /// The delivery.
    pub delivery: Delivery,
    /// What it carries.
    pub request_body: String,
    /// Its attempts, newest first.
    pub attempts: Vec<LoggedAttempt>,
}

/// An event, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventStory {
    /// Its id.
    pub event_id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// When it was taken in.
    pub received_at: Timestamp,
    /// What receivers get.
    pub body: String,
    /// A page of what became of it, in the order of the subscriptions' ids.
    pub subscriptions: Vec<SubscriptionFate>,
}

/// Which page of the subscriptions of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FatePage {
    /// How many at most.
    pub limit: u32,
    /// The last one of the page before.
    pub after: Option<SubscriptionId>,
}

/// What became of an event for one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionFate {
    /// Which one.
    pub subscription: SubscriptionId,
    /// What its owner calls it.
    pub name: SubscriptionName,
    /// What became of the event.
    pub fate: Fate,
}

impl SubscriptionFate {
    /// Its place in the event's story.
    pub fn cursor(&self) -> Cursor {
        Cursor::of_subscription(self.subscription)
    }
}

/// A delivery, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// There is one.
    Delivery(Delivery),
    /// The subscription was created after the event had come.
    CreatedLater,
    /// The subscription does not want events of this type.
    Filtered,
    /// The subscription wants such events now, and did not then.
    ChangedSince,
}
