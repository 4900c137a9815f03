//! Event types. One line of `event_types!` in this file defines a type, with its JSON Schema in `proto-schemas/event-types`.

mod pattern;

use std::fmt;

use serde::Serialize;

pub use pattern::{EventPattern, UnknownEventPattern};

macro_rules! event_types {
    ($($variant:ident $name:literal,)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventType {
            $($variant,)+
        }

        impl EventType {
            /// All of them, in the order of the contract.
            pub const ALL: [EventType; [$($name),+].len()] = [$(EventType::$variant),+];

            /// The name in messages and in the store; also the routing key.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(EventType::$variant => $name,)+
                }
            }

            /// The JSON Schema of the body that receivers get. Its `description` describes the type, and the first of its
            /// `examples` is a body.
            pub fn json_schema(self) -> &'static str {
                match self {
                    $(EventType::$variant => {
                        include_str!(concat!("../../../proto-schemas/event-types/", $name, ".json"))
                    })+
                }
            }
        }
    };
}

event_types! {
    WorkflowStarted "workflow.started",
    WorkflowCompleted "workflow.completed",
    WorkflowFailed "workflow.failed",
    StepStarted "workflow.step.started",
    StepCompleted "workflow.step.completed",
    StepFailed "workflow.step.failed",
}

/// [`EventTypeSet`] has a bit for each type.
const _: () = assert!(EventType::ALL.len() <= u32::BITS as usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", EventType::ALL.map(EventType::as_str).join(", "))]
pub struct UnknownEventType;

impl EventType {
    /// Case matters.
    pub fn parse(name: &str) -> Result<Self, UnknownEventType> {
        Self::ALL
            .into_iter()
            .find(|event_type| event_type.as_str() == name)
            .ok_or(UnknownEventType)
    }

    fn bit(self) -> u32 {
        1 << self as u32
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

/// One or more entries, none twice, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistinctList<T>(Vec<T>);

/// The event types of a replay.
pub type EventTypes = DistinctList<EventType>;

/// The `events` of a subscription.
pub type EventPatterns = DistinctList<EventPattern>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEventTypes {
    #[error("must name at least one event type")]
    Empty,
    /// The entry at this index stands earlier in the list too.
    #[error("is there twice")]
    Duplicate(usize),
}

impl<T: Copy + PartialEq> DistinctList<T> {
    pub fn new(entries: Vec<T>) -> Result<Self, InvalidEventTypes> {
        if entries.is_empty() {
            return Err(InvalidEventTypes::Empty);
        }
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index].contains(entry) {
                return Err(InvalidEventTypes::Duplicate(index));
            }
        }
        Ok(Self(entries))
    }

    /// The entries in the order given.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        self.0.iter().copied()
    }
}

impl EventPatterns {
    /// Whether one of the entries selects the type.
    pub fn select(&self, event_type: EventType) -> bool {
        self.iter().any(|pattern| pattern.selects(event_type))
    }
}

/// A set of event types in one word: fan-out asks it for every subscription of an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTypeSet(u32);

impl EventTypeSet {
    /// Whether `event_type` is in the set.
    pub fn contains(self, event_type: EventType) -> bool {
        self.0 & event_type.bit() != 0
    }
}

/// Wildcards are expanded here, once for each change of a subscription, and not for each event.
impl FromIterator<EventPattern> for EventTypeSet {
    fn from_iter<T: IntoIterator<Item = EventPattern>>(patterns: T) -> Self {
        let types = patterns.into_iter().flat_map(EventPattern::types);
        Self(types.fold(0, |all, event_type| all | event_type.bit()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// The Rust files of the programs, and the Protobuf schemas.
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_source = path
                .extension()
                .is_some_and(|ext| ext == "rs" || ext == "proto");
            if path.is_dir() {
                sources(&path, found);
            } else if is_source {
                found.push(path);
            }
        }
    }

    #[test]
    fn no_other_source_file_lists_the_event_types() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut files = Vec::new();
        sources(&root.join("proto-schemas"), &mut files);
        for entry in fs::read_dir(root.join("crates")).unwrap() {
            let krate = entry.unwrap();
            let name = krate.file_name();
            // Tests of the whole system act as clients, which have lists of their own.
            let is_client = ["acceptance", "bench", "testkit"]
                .iter()
                .any(|test| name == *test);
            if !is_client {
                sources(&krate.path().join("src"), &mut files);
            }
        }
        assert!(files.len() > 100, "{}", files.len());
        let lists = files.into_iter().filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            let (program, _) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
            EventType::ALL
                .iter()
                .all(|one| program.contains(one.as_str()))
        });
        let lists: Vec<PathBuf> = lists.collect();
        assert_eq!(lists.len(), 1, "{lists:?}");
        assert!(lists[0].ends_with("event_type.rs"), "{lists:?}");
    }

    #[test]
    fn every_schema_file_belongs_to_a_type() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto-schemas/event-types");
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(EventType::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_list_has_one_entry_or_more_and_none_twice() {
        let [one, other] = [EventType::WorkflowFailed, EventType::StepFailed];
        assert!(EventTypes::new(vec![one, other]).is_ok());
        assert_eq!(EventTypes::new(vec![]), Err(InvalidEventTypes::Empty));
        let twice = EventTypes::new(vec![one, other, one]);
        assert_eq!(twice, Err(InvalidEventTypes::Duplicate(2)));
    }
}
