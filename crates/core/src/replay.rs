//! Replays: deliveries that are ended start again, and pending ones are brought forward.
//!
//! A replay keeps each delivery's id. A receiver that deduplicates by `webhook-id` therefore drops replays, too.

use std::collections::BTreeSet;
use std::convert::Infallible;

use serde_json::{Map, Value};

use crate::event_type::{EventType, EventTypes};
use crate::fields::{Fields, boolean, distinct_list, invalid, text, whole_number};
use crate::filter::{Filter, ResponseCodes};
use crate::ids::{EventId, SubscriptionId, WorkflowId};
use crate::outcome::FailureKind;
use crate::timestamp::Timestamp;
use crate::violations::Violations;

/// Deliveries to replay. Tests are never among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayFilter {
    /// At least one.
    pub statuses: BTreeSet<ReplayStatus>,
    pub event_types: Option<EventTypes>,
    /// Has neither a status nor a subscription.
    pub conditions: Filter<Infallible>,
}

impl Default for ReplayFilter {
    fn default() -> Self {
        Self {
            statuses: UNDELIVERED.into(),
            event_types: None,
            conditions: Filter::default(),
        }
    }
}

/// The receiver does not have them, and no attempt follows.
const UNDELIVERED: [ReplayStatus; 2] = [ReplayStatus::Exhausted, ReplayStatus::Skipped];

/// The state of deliveries to replay.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumString,
)]
#[strum(serialize_all = "snake_case")]
pub enum ReplayStatus {
    /// Its next attempt is brought forward, and its attempts are counted on.
    Pending,
    /// The receiver has it.
    Delivered,
    /// No further attempt was to be made.
    Exhausted,
    /// Its subscription was inactive.
    Skipped,
    /// Its owner cancelled it.
    Cancelled,
}

impl ReplayStatus {
    /// The name in requests and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

impl ReplayFilter {
    /// The statuses, unless they are those of a request that names none.
    pub fn named_statuses(&self) -> Option<Vec<&'static str>> {
        let names = self.statuses.iter().map(|status| status.as_str());
        (self.statuses != UNDELIVERED.into()).then(|| names.collect())
    }

    /// The form that is stored. [`ReplayFilter::from_json`] reads it.
    pub fn to_json(&self) -> Value {
        let conditions = &self.conditions;
        let mut fields = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        let text = |time: Timestamp| time.to_string().into();
        set("since", conditions.since.map(text));
        set("until", conditions.until.map(text));
        let statuses: Vec<&str> = self.statuses.iter().map(|one| one.as_str()).collect();
        set("status", Some(statuses.into()));
        let types = self.event_types.as_ref();
        let types = types.map(|types| types.iter().map(EventType::as_str).collect::<Vec<_>>());
        set("event_types", types.map(Value::from));
        let event_type = conditions.event_type;
        set("event_type", event_type.map(|one| one.as_str().into()));
        let event = conditions.event.as_ref();
        set("event_id", event.map(|id| id.as_str().into()));
        let workflow = conditions.workflow.as_ref();
        set("workflow_id", workflow.map(|id| id.as_str().into()));
        let codes = conditions.response_status;
        set(
            "response_status",
            codes.map(|codes| codes.to_string().into()),
        );
        let kind = conditions.error_kind;
        set("error_kind", kind.map(|kind| kind.as_str().into()));
        set("attempt", conditions.attempt.map(Value::from));
        set(
            "min_duration_ms",
            conditions.min_duration_ms.map(Value::from),
        );
        fields.into()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// Every field that is unknown or wrong: a later version may have written it.
    pub fn from_json(stored: Value) -> Result<Self, Violations> {
        ReplayRequest::from_json(stored).map(|request| request.filter)
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
    /// None for all subscriptions of the organization, or if the path names it.
    pub subscription: Option<SubscriptionId>,
    pub mode: ReplayMode,
}

/// The fields that a body may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Subscription,
    /// With `subscription_id`.
    Organization,
    /// Without conditions on deliveries: there are none yet.
    Missing,
}

impl ReplayRequest {
    /// Reads the body of `POST /webhooks/{id}/replay`.
    ///
    /// # Errors
    /// Every field that is unknown or wrong.
    pub fn from_json(body: Value) -> Result<Self, Violations> {
        Self::read(body, Form::Subscription)
    }

    /// Reads the body of `POST /replays`.
    ///
    /// # Errors
    /// Every field that is unknown or wrong.
    pub fn of_organization(body: Value) -> Result<Self, Violations> {
        Self::read(body, Form::Organization)
    }

    /// Reads the body of `POST /webhooks/{id}/replay-missing`.
    ///
    /// # Errors
    /// Every field that is unknown or wrong.
    pub fn of_missing(body: Value) -> Result<Self, Violations> {
        Self::read(body, Form::Missing)
    }

    fn read(body: Value, form: Form) -> Result<Self, Violations> {
        let mut fields = Fields::of(body, "a replay")?;
        let since = fields.optional("since", timestamp);
        let until = fields.optional("until", timestamp);
        let statuses = match form {
            Form::Missing => None,
            _ => fields.optional("status", statuses),
        };
        let event_types = fields.optional("event_types", |value| {
            distinct_list(value, EventType::parse)
        });
        let conditions = match form {
            Form::Missing => Filter::default(),
            _ => conditions(&mut fields),
        };
        let subscription = match form {
            Form::Organization => fields.optional("subscription_id", |value| {
                let id = whole_number(&value, 1..=i64::MAX.unsigned_abs())?;
                Ok(SubscriptionId(id.cast_signed()))
            }),
            _ => None,
        };
        let dry_run = fields.optional("dry_run", boolean);
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            fields.violations.add("until", "must be later than since");
        }
        fields.finish(|| {
            Some(Self {
                filter: ReplayFilter {
                    statuses: statuses.unwrap_or_else(|| UNDELIVERED.into()),
                    event_types,
                    conditions: Filter {
                        since,
                        until,
                        ..conditions
                    },
                },
                subscription,
                mode: match dry_run {
                    Some(true) => ReplayMode::Dry,
                    Some(false) | None => ReplayMode::Real,
                },
            })
        })
    }
}

/// The conditions that lists have in their query.
fn conditions(fields: &mut Fields) -> Filter<Infallible> {
    Filter {
        event_type: fields.optional("event_type", |value| {
            EventType::parse(&text(value)?).map_err(invalid)
        }),
        event: fields.optional("event_id", |value| {
            EventId::parse(text(value)?).map_err(invalid)
        }),
        workflow: fields.optional("workflow_id", |value| {
            WorkflowId::parse(text(value)?).map_err(invalid)
        }),
        response_status: fields.optional("response_status", |value| {
            ResponseCodes::parse(&text(value)?).map_err(invalid)
        }),
        error_kind: fields.optional("error_kind", |value| {
            FailureKind::parse(&text(value)?).ok_or_else(|| invalid(FailureKind::RULE))
        }),
        attempt: fields.optional("attempt", |value| small(&value, 1)),
        min_duration_ms: fields.optional("min_duration_ms", |value| small(&value, 0)),
        ..Filter::default()
    }
}

/// A number that the store keeps in 32 bits.
fn small(value: &Value, least: u64) -> Result<u32, Violations> {
    let most = i32::MAX.unsigned_abs();
    let number = whole_number(value, least..=most.into())?;
    Ok(u32::try_from(number).unwrap_or(most))
}

fn timestamp(value: Value) -> Result<Timestamp, Violations> {
    Timestamp::parse(&text(value)?).map_err(invalid)
}

fn status(value: Value) -> Result<ReplayStatus, Violations> {
    ReplayStatus::parse(&text(value)?)
        .ok_or_else(|| invalid("must be pending, delivered, exhausted, skipped or cancelled"))
}

/// One status, or an array of several.
fn statuses(value: Value) -> Result<BTreeSet<ReplayStatus>, Violations> {
    let Value::Array(names) = value else {
        return status(value).map(|one| BTreeSet::from([one]));
    };
    let mut violations = Violations::default();
    let mut all = BTreeSet::new();
    for (index, value) in names.into_iter().enumerate() {
        match status(value) {
            Ok(one) if !all.insert(one) => {
                violations.add(format!("[{index}]"), "is there twice");
            }
            Ok(_) => {}
            Err(inner) => violations.nest(&format!("[{index}]"), inner),
        }
    }
    if all.is_empty() && violations.is_empty() {
        violations.add("", "must name at least one status");
    }
    violations.into_result(Some(all))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_default_filter_selects_undelivered_deliveries() {
        let request = ReplayRequest::from_json(json!({})).unwrap();
        assert_eq!(request.filter, ReplayFilter::default());
        assert_eq!(request.filter.statuses, UNDELIVERED.into());
        assert_eq!(request.filter.named_statuses(), None);
        assert_eq!(request.mode, ReplayMode::Real);
    }

    fn every_condition() -> Value {
        json!({
            "since": "2025-12-21T10:30:00Z", "until": "2025-12-21T10:30:01.5Z",
            "status": ["pending", "delivered"], "event_types": ["workflow.failed"],
            "event_type": "workflow.failed", "event_id": "e", "workflow_id": "w",
            "response_status": "5xx", "error_kind": "tls", "attempt": 2, "min_duration_ms": 0,
        })
    }

    #[test]
    fn every_part_of_the_filter_is_read_and_written() {
        let request = ReplayRequest::from_json(every_condition()).unwrap();
        let filter = request.filter;
        let conditions = &filter.conditions;
        assert!(conditions.since < conditions.until);
        assert_eq!(filter.named_statuses().unwrap(), ["pending", "delivered"]);
        assert_eq!(filter.event_types.as_ref().unwrap().iter().count(), 1);
        assert_eq!(conditions.error_kind, Some(FailureKind::Tls));
        assert_eq!(conditions.min_duration_ms, Some(0));
        assert_eq!(filter.to_json(), every_condition());
        assert_eq!(ReplayFilter::from_json(filter.to_json()), Ok(filter));
        let default = ReplayFilter::default();
        assert_eq!(ReplayFilter::from_json(default.to_json()), Ok(default));
    }

    #[test]
    fn one_status_needs_no_array() {
        let read = |status| ReplayRequest::from_json(json!({"status": status})).unwrap();
        assert_eq!(read(json!("pending")), read(json!(["pending"])));
    }

    #[test]
    fn each_form_has_its_fields() {
        let id = json!({"subscription_id": 7, "dry_run": true});
        let request = ReplayRequest::of_organization(id.clone()).unwrap();
        assert_eq!(request.subscription, Some(SubscriptionId(7)));
        assert_eq!(request.mode, ReplayMode::Dry);
        assert!(ReplayRequest::from_json(id).is_err());
        let span = json!({"since": "2025-12-21T10:30:00Z", "event_types": ["workflow.failed"]});
        assert!(ReplayRequest::of_missing(span).is_ok());
        insta::assert_snapshot!(
            ReplayRequest::of_missing(json!({"status": "pending", "event_id": "e"})).unwrap_err(),
            @"event_id: is not a field of a replay; status: is not a field of a replay"
        );
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let bad = json!({
            "since": "2025-12-21T10:30:00Z", "until": "2025-12-21T10:30:00Z", "status": "waiting",
            "event_types": ["x"], "dry_run": 1, "limit": 3, "response_status": 500, "error_kind": "x", "attempt": 0,
            "min_duration_ms": -1, "event_id": "",
        });
        insta::assert_snapshot!(
            ReplayRequest::from_json(bad).unwrap_err(),
            @"status: must be pending, delivered, exhausted, skipped or cancelled; event_types[0]: must be one of workflow.started, workflow.completed, workflow.failed, workflow.step.started, workflow.step.completed, workflow.step.failed; event_id: must not be empty; response_status: must be a string; error_kind: must be timeout, dns, connect, tls, blocked_address, http_status or response; attempt: must be a whole number from 1 to 2147483647; min_duration_ms: must be a whole number from 0 to 2147483647; dry_run: must be true or false; until: must be later than since; limit: is not a field of a replay"
        );
        insta::assert_snapshot!(
            ReplayRequest::from_json(json!({"status": ["pending", "x", "pending"]})).unwrap_err(),
            @"status[1]: must be pending, delivered, exhausted, skipped or cancelled; status[2]: is there twice"
        );
        for bad in [
            json!({"status": "undelivered"}),
            json!({"status": []}),
            json!({"status": null}),
            json!({"event_types": []}),
            json!({"since": null}),
            json!([]),
        ] {
            assert!(ReplayRequest::from_json(bad.clone()).is_err(), "{bad}");
        }
    }
}
