//! Event types.

use std::fmt;

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    WorkflowStarted,
    WorkflowCompleted,
    WorkflowFailed,
    StepStarted,
    StepCompleted,
    StepFailed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one of workflow.started, workflow.completed, workflow.failed, \
     workflow.step.started, workflow.step.completed, workflow.step.failed"
)]
pub struct UnknownEventType;

impl EventType {
    /// All of them, in the order of the contract.
    pub const ALL: [EventType; 6] = [
        EventType::WorkflowStarted,
        EventType::WorkflowCompleted,
        EventType::WorkflowFailed,
        EventType::StepStarted,
        EventType::StepCompleted,
        EventType::StepFailed,
    ];

    /// The name in messages and in the store; also the routing key.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::WorkflowStarted => "workflow.started",
            EventType::WorkflowCompleted => "workflow.completed",
            EventType::WorkflowFailed => "workflow.failed",
            EventType::StepStarted => "workflow.step.started",
            EventType::StepCompleted => "workflow.step.completed",
            EventType::StepFailed => "workflow.step.failed",
        }
    }

    /// Case matters.
    pub fn parse(name: &str) -> Result<Self, UnknownEventType> {
        Self::ALL
            .into_iter()
            .find(|event_type| event_type.as_str() == name)
            .ok_or(UnknownEventType)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for EventType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The event types that a subscription wants: one or more, none twice, in the order given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EventTypes(Vec<EventType>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEventTypes {
    #[error("must name at least one event type")]
    Empty,
    /// The entry at this index stands earlier in the list too.
    #[error("is there twice")]
    Duplicate(usize),
}

impl EventTypes {
    pub fn new(types: Vec<EventType>) -> Result<Self, InvalidEventTypes> {
        if types.is_empty() {
            return Err(InvalidEventTypes::Empty);
        }
        for (index, event_type) in types.iter().enumerate() {
            if types[..index].contains(event_type) {
                return Err(InvalidEventTypes::Duplicate(index));
            }
        }
        Ok(Self(types))
    }

    /// The types in the order given.
    pub fn iter(&self) -> impl Iterator<Item = EventType> {
        self.0.iter().copied()
    }

    pub fn to_set(&self) -> EventTypeSet {
        self.iter().collect()
    }
}

impl FromIterator<EventType> for EventTypeSet {
    fn from_iter<T: IntoIterator<Item = EventType>>(types: T) -> Self {
        let bits = types.into_iter().map(EventType::bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

/// A set of event types in one byte: fan-out asks it for every subscription of an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTypeSet(u8);

impl EventTypeSet {
    /// Whether `event_type` is in the set.
    pub fn contains(self, event_type: EventType) -> bool {
        self.0 & event_type.bit() != 0
    }
}
