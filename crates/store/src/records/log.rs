//! The log of attempts.

use std::sync::Arc;

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
    /// How many bytes of events are read at most. Of an event that would exceed them the beginning is read.
    pub body_bytes: usize,
}

/// A text, or the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// What is there of it.
    pub text: Arc<str>,
    /// Whether that is all of it.
    pub is_whole: bool,
}

/// One attempt, and what it carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The attempt.
    pub attempt: LoggedAttempt,
    /// The event.
    pub request_body: Excerpt,
}

/// One attempt in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedAttempt {
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
    pub number: u32,
    /// Why it was made.
    pub trigger: Trigger,
    /// Whether it reached its aim.
    pub status: AttemptStatus,
    /// Where it went.
    pub url: String,
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

impl LoggedAttempt {
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
