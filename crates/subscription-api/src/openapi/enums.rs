//! Enums of bodies whose types have strings; here the document gets their values.

use hookline_core::event_type::EventType;
use serde_json::Value;
use utoipa::openapi::schema::{ArrayItems, Schema, SchemaType, Type};
use utoipa::openapi::{OpenApi, Ref, RefOr};

const DELIVERY_STATUSES: &[&str] = &["pending", "delivered", "exhausted", "skipped", "cancelled"];
/// The status of the delivery, or the reason why there is none.
const SUBSCRIPTION_OUTCOMES: &[&str] = &[
    "pending",
    "delivered",
    "exhausted",
    "skipped",
    "cancelled",
    "created_later",
    "filtered",
    "changed_since",
];
const EXHAUSTED_REASON: &[&str] = &["out_of_attempts", "gone", "poison"];
/// With values of later versions, so that clients accept them.
const WAITING_FOR: &[&str] = &[
    "retry",
    "breaker",
    "concurrency",
    "rate",
    "order",
    "origin",
    "paused",
];
const ERROR_KINDS: &[&str] = &[
    "timeout",
    "dns",
    "connect",
    "tls",
    "blocked_address",
    "http_status",
    "response",
];

const STATS_GROUPS: &[&str] = &[
    "subscription_id",
    "event_type",
    "outcome",
    "code_class",
    "error_kind",
];
const STATS_OUTCOMES: &[&str] = &["delivered", "retried", "exhausted", "skipped", "cancelled"];
const STATS_CODE_CLASSES: &[&str] = &["none", "1xx", "2xx", "3xx", "4xx", "5xx", "other"];
const STATS_ERROR_KINDS: &[&str] = &[
    "none",
    "timeout",
    "dns",
    "connect",
    "tls",
    "blocked_address",
    "http_status",
    "response",
];

/// The values by schema and property.
const ENUMS: &[(&str, &str, &[&str])] = &[
    ("Attempt", "trigger", &["event", "retry", "test", "replay"]),
    ("Attempt", "status", &["success", "failed"]),
    ("Delivery", "origin", &["event", "test"]),
    ("Delivery", "status", DELIVERY_STATUSES),
    ("Delivery", "waiting_for", WAITING_FOR),
    ("Delivery", "exhausted_reason", EXHAUSTED_REASON),
    ("SubscriptionFate", "outcome", SUBSCRIPTION_OUTCOMES),
    ("SubscriptionFate", "exhausted_reason", EXHAUSTED_REASON),
    ("LogError", "kind", ERROR_KINDS),
    ("DeliveryCancelled", "status", &["cancelled"]),
    ("Replay", "status", &["running", "finished", "cancelled"]),
    (
        "Replay",
        "cancelled_because",
        &["requested", "subscription_inactive", "subscription_deleted"],
    ),
    ("Replay", "kind", &["deliveries", "missing"]),
    ("NewReplay", "error_kind", ERROR_KINDS),
    ("NewOrganizationReplay", "error_kind", ERROR_KINDS),
    ("ReplayFilter", "error_kind", ERROR_KINDS),
    ("Subscription", "disabled_reason", &["gone", "failing"]),
    (
        "DeliveryEvent",
        "status",
        &["delivered", "exhausted", "skipped", "cancelled"],
    ),
    (
        "SubscriptionEvent",
        "change",
        &["created", "changed", "disabled", "deleted"],
    ),
    ("SubscriptionEvent", "disabled_reason", &["gone", "failing"]),
    ("Stats", "step", &["1m", "1h", "1d"]),
    ("Stats", "group_by", STATS_GROUPS),
    ("StatsSeries", "outcome", STATS_OUTCOMES),
    ("StatsSeries", "code_class", STATS_CODE_CLASSES),
    ("StatsSeries", "error_kind", STATS_ERROR_KINDS),
    ("WaitingCount", "waiting_for", WAITING_FOR),
];

/// Properties that are an event type or a list of event types.
const EVENT_TYPES: &[(&str, &str)] = &[
    ("Attempt", "event_type"),
    ("Delivery", "event_type"),
    ("DeliveryEvent", "event_type"),
    ("EventStory", "event_type"),
    ("EventTypeDetails", "event_type"),
    ("ListedEvent", "event_type"),
    ("NewReplay", "event_type"),
    ("NewOrganizationReplay", "event_type"),
    ("ReplayFilter", "event_type"),
    ("ReplayFilter", "event_types"),
    ("Subscription", "events"),
];

pub(super) fn add(document: &mut OpenApi) {
    for (schema, property, words) in ENUMS {
        restrict(find(document, schema, property), words, "");
    }
    let types = EventType::ALL.map(EventType::as_str);
    for (schema, property) in EVENT_TYPES {
        let item = match *property {
            "events" => "EventPattern",
            _ => "EventType",
        };
        restrict(find(document, schema, property), &types, item);
    }
}

/// A schema that extends another has its properties in one of its parts.
fn find<'a>(document: &'a mut OpenApi, schema: &str, property: &str) -> Option<&'a mut Schema> {
    let components = document.components.as_mut()?;
    match components.schemas.get_mut(schema)? {
        RefOr::T(schema) => property_of(schema, property),
        RefOr::Ref(_) => None,
    }
}

fn property_of<'a>(schema: &'a mut Schema, property: &str) -> Option<&'a mut Schema> {
    match schema {
        Schema::Object(object) => match object.properties.get_mut(property)? {
            RefOr::T(schema) => Some(schema),
            RefOr::Ref(_) => None,
        },
        Schema::AllOf(all) => all.items.iter_mut().find_map(|part| match part {
            RefOr::T(part) => property_of(part, property),
            RefOr::Ref(_) => None,
        }),
        _ => None,
    }
}

/// `item` is the schema of a list's entries.
fn restrict(schema: Option<&mut Schema>, words: &[&str], item: &str) {
    let Some(schema) = schema else {
        return;
    };
    match schema {
        Schema::Object(text) => {
            let mut values: Vec<Value> = words.iter().map(|word| Value::from(*word)).collect();
            // A nullable enum must list null (JSON Schema, validation, 6.1.2).
            if matches!(&text.schema_type, SchemaType::Array(types) if types.contains(&Type::Null))
            {
                values.push(Value::Null);
            }
            text.enum_values = Some(values);
        }
        Schema::Array(list) => {
            let item = Ref::from_schema_name(item);
            list.items = ArrayItems::RefOrSchema(Box::new(item.into()));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use hookline_core::outcome::FailureKind;
    use hookline_core::subscription::DisabledReason;
    use hookline_store::StatsGroupBy;

    use super::*;

    fn property(schema: &str, property: &str) -> Value {
        fn search(schema: &Value, property: &str) -> Option<Value> {
            let own = &schema["properties"][property];
            if !own.is_null() {
                return Some(own.clone());
            }
            let parts = schema["allOf"].as_array()?;
            parts.iter().find_map(|part| search(part, property))
        }
        let document: Value = serde_json::from_str(crate::openapi::document()).unwrap();
        let found = search(&document["components"]["schemas"][schema], property);
        found.unwrap_or_else(|| panic!("{schema} has no {property}"))
    }

    #[test]
    fn every_enum_is_documented() {
        for (schema, name, words) in ENUMS {
            let shown = property(schema, name);
            let values = shown["enum"]
                .as_array()
                .unwrap_or_else(|| panic!("{schema}.{name}"));
            let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
            assert_eq!(texts, *words);
            let nullable = shown["type"].is_array();
            assert_eq!(values.contains(&Value::Null), nullable, "{schema}.{name}");
        }
        for (schema, name) in EVENT_TYPES {
            let shown = property(schema, name);
            let restricted = shown["enum"].is_array() || shown["items"]["$ref"].is_string();
            assert!(restricted, "{schema}.{name}: {shown}");
        }
        let status = property("NewReplay", "status");
        assert_eq!(
            status["oneOf"][0]["enum"],
            serde_json::json!(DELIVERY_STATUSES)
        );
    }

    #[test]
    fn the_values_are_those_of_the_types() {
        for kind in ERROR_KINDS {
            assert!(FailureKind::parse(kind).is_some(), "{kind}");
        }
        for group in STATS_GROUPS {
            assert!(StatsGroupBy::parse(group).is_some(), "{group}");
        }
        for kind in &STATS_ERROR_KINDS[1..] {
            assert!(FailureKind::parse(kind).is_some(), "{kind}");
        }
        for reason in ["gone", "failing"] {
            assert!(DisabledReason::parse(reason).is_some());
        }
    }
}
