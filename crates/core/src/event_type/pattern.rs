//! The entries of a subscription's `events`: an event type, or a wildcard. A wildcard is kept as written, so it also selects
//! types that a later version adds.

use std::fmt;

use serde::Serialize;

use super::EventType;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventPattern {
    Type(EventType),
    /// `workflow.*`: the types with exactly one word after this prefix, which ends with a dot.
    OneWordAfter(&'static str),
    /// `*`
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one of {}, or a wildcard: {}",
    EventType::ALL.map(EventType::as_str).join(", "),
    EventPattern::wildcards().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
)]
pub struct UnknownEventPattern;

impl EventPattern {
    /// Every wildcard that selects a type, those with the shortest prefix first and `*` last.
    pub fn wildcards() -> Vec<Self> {
        let mut all = Vec::new();
        for prefix in EventType::ALL.into_iter().filter_map(prefix) {
            let wildcard = Self::OneWordAfter(prefix);
            if !all.contains(&wildcard) {
                all.push(wildcard);
            }
        }
        all.push(Self::All);
        all
    }

    /// Case matters.
    pub fn parse(text: &str) -> Result<Self, UnknownEventPattern> {
        if text == "*" {
            return Ok(Self::All);
        }
        let found = match text.strip_suffix('*') {
            Some(before) => {
                let mut prefixes = EventType::ALL.into_iter().filter_map(prefix);
                prefixes
                    .find(|known| *known == before)
                    .map(Self::OneWordAfter)
            }
            None => EventType::parse(text).ok().map(Self::Type),
        };
        found.ok_or(UnknownEventPattern)
    }

    pub fn selects(self, event_type: EventType) -> bool {
        match self {
            Self::Type(own) => own == event_type,
            Self::OneWordAfter(own) => prefix(event_type) == Some(own),
            Self::All => true,
        }
    }

    /// The types of this version that it selects.
    pub fn types(self) -> impl Iterator<Item = EventType> {
        EventType::ALL
            .into_iter()
            .filter(move |event_type| self.selects(*event_type))
    }
}

/// All but the last word of the name, with the dot at its end.
fn prefix(event_type: EventType) -> Option<&'static str> {
    let name = event_type.as_str();
    name.rfind('.').map(|dot| &name[..=dot])
}

impl From<EventType> for EventPattern {
    fn from(event_type: EventType) -> Self {
        Self::Type(event_type)
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(event_type) => event_type.fmt(f),
            Self::OneWordAfter(prefix) => write!(f, "{prefix}*"),
            Self::All => f.write_str("*"),
        }
    }
}

impl Serialize for EventPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_type::EventTypeSet;

    fn selected(text: &str) -> Vec<&'static str> {
        let pattern = EventPattern::parse(text).unwrap();
        assert_eq!(pattern.to_string(), text);
        let set: EventTypeSet = [pattern].into_iter().collect();
        for event_type in EventType::ALL {
            assert_eq!(set.contains(event_type), pattern.selects(event_type));
        }
        pattern.types().map(EventType::as_str).collect()
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_word() {
        assert_eq!(
            selected("workflow.*"),
            ["workflow.started", "workflow.completed", "workflow.failed"]
        );
        assert_eq!(
            selected("workflow.step.*"),
            [
                "workflow.step.started",
                "workflow.step.completed",
                "workflow.step.failed"
            ]
        );
        assert_eq!(selected("*").len(), EventType::ALL.len());
        assert_eq!(selected("workflow.failed"), ["workflow.failed"]);
    }

    #[test]
    fn the_wildcards_are_those_that_parse() {
        let wildcards = EventPattern::wildcards();
        let texts: Vec<String> = wildcards.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["workflow.*", "workflow.step.*", "*"]);
        for (wildcard, text) in wildcards.iter().zip(&texts) {
            assert_eq!(EventPattern::parse(text), Ok(*wildcard));
        }
    }

    #[test]
    fn another_wildcard_is_refused() {
        for bad in [
            "",
            "**",
            "*.failed",
            "workflow*",
            "workflow.**",
            "workflow.step",
            "workflow.s*",
            "Workflow.*",
            ".*",
            "workflow.step.*.*",
            "* ",
        ] {
            assert_eq!(
                EventPattern::parse(bad),
                Err(UnknownEventPattern),
                "{bad:?}"
            );
        }
        insta::assert_snapshot!(UnknownEventPattern, @"must be one of workflow.started, workflow.completed, workflow.failed, workflow.step.started, workflow.step.completed, workflow.step.failed, or a wildcard: workflow.*, workflow.step.*, *");
    }
}
