//! Conversion between rows and our types. An invalid value is [`StoreError::Corrupt`], never a panic: a later version, or an
//! operator with SQL, may have written it.

use std::fmt::Display;
use std::str::FromStr;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer};
use hookline_core::access::Scope;
use hookline_core::delivery::{AttemptTask, DeliveryState, RetryRun};
use hookline_core::event_type::{DistinctList, EventPattern, EventType, EventTypeSet};
use hookline_core::ids::{DeliveryId, OrganizationId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;

/// The next attempt of a pending delivery, as a raw SQL statement returns it.
#[derive(QueryableByName)]
pub(crate) struct NextAttempt {
    #[diesel(sql_type = UuidColumn)]
    pub(crate) id: UuidKey,
    #[diesel(sql_type = BigInt)]
    pub(crate) subscription_id: i64,
    #[diesel(sql_type = Integer)]
    pub(crate) generation: i32,
    #[diesel(sql_type = Integer)]
    pub(crate) attempts: i32,
}

impl From<NextAttempt> for AttemptTask {
    fn from(row: NextAttempt) -> Self {
        Self {
            delivery: DeliveryId(row.id.0),
            subscription: SubscriptionId(row.subscription_id),
            generation: row.generation.unsigned_abs(),
            attempt: row.attempts.unsigned_abs() + 1,
        }
    }
}

/// The columns of a delivery's state.
pub(crate) struct StateColumns {
    pub(crate) state: &'static str,
    pub(crate) due: Option<i64>,
    pub(crate) finished_at: Option<i64>,
    pub(crate) exhausted_reason: Option<&'static str>,
}

impl From<DeliveryState> for StateColumns {
    fn from(state: DeliveryState) -> Self {
        let (name, due, finished, exhausted_reason) = match state {
            DeliveryState::Pending { due } => ("pending", Some(due), None, None),
            DeliveryState::Delivered { at } => ("delivered", None, Some(at), None),
            DeliveryState::Exhausted { at, reason } => {
                ("exhausted", None, Some(at), Some(reason.as_str()))
            }
            DeliveryState::Skipped { at } => ("skipped", None, Some(at), None),
            DeliveryState::Cancelled { at } => ("cancelled", None, Some(at), None),
        };
        Self {
            state: name,
            due: due.map(Timestamp::unix_micros),
            finished_at: finished.map(Timestamp::unix_micros),
            exhausted_reason,
        }
    }
}

pub(crate) fn read_state(
    state: &str,
    due: Option<i64>,
    finished_at: Option<i64>,
    exhausted_reason: Option<&str>,
) -> Result<DeliveryState, StoreError> {
    let at = || {
        let micros = finished_at.ok_or_else(|| corrupt("finished_at", "null"))?;
        Ok::<_, StoreError>(Timestamp::from_unix_micros(micros))
    };
    Ok(match state {
        "pending" => DeliveryState::Pending {
            due: Timestamp::from_unix_micros(due.ok_or_else(|| corrupt("due", "null"))?),
        },
        "delivered" => DeliveryState::Delivered { at: at()? },
        "skipped" => DeliveryState::Skipped { at: at()? },
        "cancelled" => DeliveryState::Cancelled { at: at()? },
        "exhausted" => DeliveryState::Exhausted {
            at: at()?,
            reason: read_name("exhausted_reason", exhausted_reason.unwrap_or("null"))?,
        },
        other => return Err(corrupt("state", other)),
    })
}

pub(crate) fn read_run(started_by: &str, attempts_before: i32) -> Result<RetryRun, StoreError> {
    Ok(RetryRun {
        started_by: read_name("started_by", started_by)?,
        attempts_before: attempts_before.unsigned_abs(),
    })
}

pub(crate) fn organization(text: &str) -> Result<OrganizationId, StoreError> {
    OrganizationId::parse(text).map_err(|why| corrupt("organization_id", why))
}

pub(crate) fn read_event_type(name: &str) -> Result<EventType, StoreError> {
    EventType::parse(name).map_err(|_| corrupt("event_type", name))
}

/// The entries of a list, with spaces between them.
pub(crate) fn list_text<T: Copy + PartialEq + Display>(entries: &DistinctList<T>) -> String {
    entries
        .iter()
        .map(|entry| entry.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

pub(crate) fn read_list<T: Copy + PartialEq>(
    text: &str,
    read: impl Fn(&str) -> Result<T, StoreError>,
) -> Result<DistinctList<T>, StoreError> {
    let entries = text.split(' ').map(read).collect::<Result<_, _>>()?;
    DistinctList::new(entries).map_err(|why| corrupt("events", why))
}

pub(crate) fn read_event_pattern(text: &str) -> Result<EventPattern, StoreError> {
    EventPattern::parse(text).map_err(|_| corrupt("events", text))
}

/// The event types of a subscription that this version knows, with wildcards expanded. A newer version may have stored others; this version
/// accepts no event of such a type, so the subscription misses nothing.
pub(crate) fn known_event_types(text: &str) -> EventTypeSet {
    text.split(' ')
        .filter_map(|entry| EventPattern::parse(entry).ok())
        .collect()
}

pub(crate) fn scopes_text(scopes: &[Scope]) -> String {
    scopes
        .iter()
        .map(|scope| scope.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

pub(crate) fn read_scopes(text: &str) -> Result<Vec<Scope>, StoreError> {
    text.split_whitespace()
        .map(|name| read_name("scopes", name))
        .collect()
}

/// Reads the name of a variant.
pub(crate) fn read_name<T: FromStr>(column: &str, name: &str) -> Result<T, StoreError> {
    name.parse().map_err(|_| corrupt(column, name))
}

pub(crate) fn corrupt(column: &str, value: impl Display) -> StoreError {
    StoreError::Corrupt(format!("{column}: {value}"))
}

pub(crate) fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_type_of_a_newer_version_is_left_out() {
        let types = known_event_types("workflow.completed workflow.paused");
        assert!(types.contains(EventType::parse("workflow.completed").unwrap()));
        assert!(!types.contains(EventType::parse("workflow.failed").unwrap()));
    }

    #[test]
    fn wildcards_are_expanded() {
        let types = known_event_types("workflow.step.* workflow.failed order.*");
        let names = [
            "workflow.step.started",
            "workflow.step.failed",
            "workflow.failed",
        ];
        for name in names {
            assert!(types.contains(EventType::parse(name).unwrap()), "{name}");
        }
        assert!(!types.contains(EventType::parse("workflow.started").unwrap()));
    }
}
