//! A replay: finished deliveries of one subscription are to be started again.
//!
//! A replay keeps each delivery and its id, which is what a receiver knows repeats by: whoever
//! drops what it has seen before drops replays, too.

use serde_json::Value;

use crate::event_type::EventTypes;
use crate::fields::{Fields, event_types, invalid, text};
use crate::timestamp::Timestamp;
use crate::violations::Violations;

/// Which deliveries of a subscription; tests are never among them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayFilter {
    /// Those that stand so.
    pub wanted: Wanted,
    /// Of these types alone.
    pub event_types: Option<EventTypes>,
    /// Made then or later.
    pub since: Option<Timestamp>,
    /// Made before then.
    pub until: Option<Timestamp>,
}

/// How a delivery must stand to be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// Exhausted or skipped: the receiver does not have it.
    #[default]
    Undelivered,
    /// The receiver has it.
    Delivered,
    /// No further attempt was to be made.
    Exhausted,
    /// Its subscription was inactive.
    Skipped,
}

impl Wanted {
    const ALL: [Self; 4] = [
        Self::Undelivered,
        Self::Delivered,
        Self::Exhausted,
        Self::Skipped,
    ];

    /// The name in the store; but for the first, also of the one state that it means.
    pub fn as_str(self) -> &'static str {
        match self {
            Wanted::Undelivered => "undelivered",
            Wanted::Delivered => "delivered",
            Wanted::Exhausted => "exhausted",
            Wanted::Skipped => "skipped",
        }
    }

    /// What has this name, if anything.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wanted| wanted.as_str() == name)
    }

    /// The names of the states that it means.
    pub fn states(self) -> &'static [&'static str] {
        match self {
            Wanted::Undelivered => &["exhausted", "skipped"],
            Wanted::Delivered => &["delivered"],
            Wanted::Exhausted => &["exhausted"],
            Wanted::Skipped => &["skipped"],
        }
    }
}

/// Whether a replay is made or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is made.
    Real,
    /// Nothing happens; the answer says how many deliveries it would be.
    Dry,
}

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayRequest {
    /// Which deliveries.
    pub filter: ReplayFilter,
    /// Whether really.
    pub mode: Mode,
}

impl ReplayRequest {
    /// Reads the body of `POST /webhooks/{id}/replay`.
    ///
    /// # Errors
    /// Every field that is unknown or wrong.
    pub fn from_json(body: Value) -> Result<Self, Violations> {
        let mut fields = Fields::of(body, "a replay")?;
        let since = fields.optional("since", timestamp);
        let until = fields.optional("until", timestamp);
        let wanted = fields.optional("status", wanted);
        let event_types = fields.optional("event_types", event_types);
        let mode = fields.optional("dry_run", mode);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            fields.violations.add("until", "must be later than since");
        }
        fields.finish(|| {
            Some(Self {
                filter: ReplayFilter {
                    wanted: wanted.unwrap_or_default(),
                    event_types,
                    since,
                    until,
                },
                mode: mode.unwrap_or(Mode::Real),
            })
        })
    }
}

fn timestamp(value: Value) -> Result<Timestamp, Violations> {
    Timestamp::parse(&text(value)?).map_err(invalid)
}

fn wanted(value: Value) -> Result<Wanted, Violations> {
    Wanted::parse(&text(value)?)
        .filter(|wanted| *wanted != Wanted::Undelivered)
        .ok_or_else(|| invalid("must be delivered, exhausted or skipped"))
}

fn mode(value: Value) -> Result<Mode, Violations> {
    match value {
        Value::Bool(true) => Ok(Mode::Dry),
        Value::Bool(false) => Ok(Mode::Real),
        _ => Err(invalid("must be true or false")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn without_a_word_it_is_what_the_receiver_does_not_have() {
        let request = ReplayRequest::from_json(json!({})).unwrap();
        assert_eq!(request.filter, ReplayFilter::default());
        assert_eq!(request.filter.wanted.states(), ["exhausted", "skipped"]);
        assert_eq!(request.mode, Mode::Real);
    }

    #[test]
    fn every_part_of_the_filter_is_read() {
        let request = ReplayRequest::from_json(json!({
            "since": "2025-12-21T10:30:00Z", "until": "2025-12-21T10:30:01Z",
            "status": "delivered", "event_types": ["workflow.failed"], "dry_run": true,
        }))
        .unwrap();
        let filter = request.filter;
        assert_eq!(filter.wanted, Wanted::Delivered);
        assert!(filter.since < filter.until);
        assert_eq!(filter.event_types.unwrap().iter().count(), 1);
        assert_eq!(request.mode, Mode::Dry);
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let bad = json!({
            "since": "2025-12-21T10:30:00Z", "until": "2025-12-21T10:30:00Z", "status": "pending",
            "event_types": ["x"], "dry_run": 1, "limit": 3,
        });
        insta::assert_snapshot!(
            ReplayRequest::from_json(bad).unwrap_err(),
            @"status: must be delivered, exhausted or skipped; event_types[0]: must be one of workflow.started, workflow.completed, workflow.failed, workflow.step.started, workflow.step.completed, workflow.step.failed; dry_run: must be true or false; until: must be later than since; limit: is not a field of a replay"
        );
        for bad in [
            json!({"status": "undelivered"}),
            json!({"status": "cancelled"}),
            json!({"status": ["exhausted"]}),
            json!({"event_types": []}),
            json!({"since": null}),
            json!([]),
        ] {
            assert!(ReplayRequest::from_json(bad.clone()).is_err(), "{bad}");
        }
    }
}
