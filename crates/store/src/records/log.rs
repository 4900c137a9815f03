//! The log of attempts.

use hookline_core::cursor::Cursor;
use hookline_core::delivery::Trigger;
use hookline_core::event_type::EventType;
use hookline_core::ids::{AttemptId, DeliveryId, EventId, OrganizationId, SubscriptionId};
use hookline_core::outcome::FailureKind;
use hookline_core::timestamp::Timestamp;

use super::PageStart;

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
