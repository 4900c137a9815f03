//! Replays: finished deliveries of one subscription start again.
//!
//! A replay keeps each delivery's id. A receiver that deduplicates by `webhook-id` therefore drops replays, too.

use serde_json::Value;

use crate::event_type::{EventType, EventTypes};
use crate::fields::{Fields, distinct_list, invalid, text};
use crate::timestamp::Timestamp;
use crate::violations::Violations;

/// Deliveries of a subscription to replay. Tests are never among them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayFilter {
    pub wanted: ReplayStatus,
    pub event_types: Option<EventTypes>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// The state of deliveries to replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum ReplayStatus {
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

impl ReplayStatus {
    /// The name in the store; but for the first, also of the one state that it means.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// The names of the states that it means.
    pub fn states(self) -> &'static [&'static str] {
        match self {
            ReplayStatus::Undelivered => &["exhausted", "skipped"],
            ReplayStatus::Delivered => &["delivered"],
            ReplayStatus::Exhausted => &["exhausted"],
            ReplayStatus::Skipped => &["skipped"],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayMode {
    Real,
    /// Nothing changes; the answer has the number of deliveries.
    Dry,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayRequest {
    pub filter: ReplayFilter,
    pub mode: ReplayMode,
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
        let event_types = fields.optional("event_types", |value| {
            distinct_list(value, EventType::parse)
        });
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
                mode: mode.unwrap_or(ReplayMode::Real),
            })
        })
    }
}

fn timestamp(value: Value) -> Result<Timestamp, Violations> {
    Timestamp::parse(&text(value)?).map_err(invalid)
}

fn wanted(value: Value) -> Result<ReplayStatus, Violations> {
    ReplayStatus::parse(&text(value)?)
        .filter(|wanted| *wanted != ReplayStatus::Undelivered)
        .ok_or_else(|| invalid("must be delivered, exhausted or skipped"))
}

fn mode(value: Value) -> Result<ReplayMode, Violations> {
    match value {
        Value::Bool(true) => Ok(ReplayMode::Dry),
        Value::Bool(false) => Ok(ReplayMode::Real),
        _ => Err(invalid("must be true or false")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_default_filter_selects_undelivered_deliveries() {
        let request = ReplayRequest::from_json(json!({})).unwrap();
        assert_eq!(request.filter, ReplayFilter::default());
        assert_eq!(request.filter.wanted.states(), ["exhausted", "skipped"]);
        assert_eq!(request.mode, ReplayMode::Real);
    }

    #[test]
    fn every_part_of_the_filter_is_read() {
        let request = ReplayRequest::from_json(json!({
            "since": "2025-12-21T10:30:00Z", "until": "2025-12-21T10:30:01Z",
            "status": "delivered", "event_types": ["workflow.failed"], "dry_run": true,
        }))
        .unwrap();
        let filter = request.filter;
        assert_eq!(filter.wanted, ReplayStatus::Delivered);
        assert!(filter.since < filter.until);
        assert_eq!(filter.event_types.unwrap().iter().count(), 1);
        assert_eq!(request.mode, ReplayMode::Dry);
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
