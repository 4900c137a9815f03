//! Conversion between rows and our types. An invalid value is [`StoreError::Corrupt`], never a panic: a later version, or an
//! operator with SQL, may have written it.

use std::str::FromStr;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer};
use hookline_core::access::Scope;
use hookline_core::delivery::{AttemptTask, DeliveryState, RetryRun};
use hookline_core::event_type::{EventType, EventTypeSet, EventTypes};
use hookline_core::ids::{DeliveryId, OrganizationId, SubscriptionId};
use hookline_core::subscription::{Revision, Subscription, SubscriptionName, SubscriptionStatus};
use hookline_core::target::TargetUrl;
use hookline_core::timestamp::Timestamp;

use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::schema::subscriptions;

/// A row of `subscriptions`.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = subscriptions)]
pub(crate) struct SubscriptionRow {
    pub(crate) id: i64,
    pub(crate) organization_id: String,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) events: String,
    #[diesel(select_expression = subscriptions::secret.is_not_null())]
    pub(crate) has_secret: bool,
    pub(crate) header_names: String,
    pub(crate) is_active: bool,
    pub(crate) disabled_reason: Option<String>,
    pub(crate) activation: i64,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) failures_from: i64,
    pub(crate) version: i64,
}

impl SubscriptionRow {
    pub(crate) fn revision(&self) -> Revision {
        Revision {
            version: self.version,
            changed_at: Timestamp::from_unix_micros(self.updated_at),
        }
    }
}

impl TryFrom<SubscriptionRow> for Subscription {
    type Error = StoreError;

    fn try_from(row: SubscriptionRow) -> Result<Self, StoreError> {
        let status = match (row.is_active, row.disabled_reason) {
            (true, _) => SubscriptionStatus::Active,
            (false, None) => SubscriptionStatus::Inactive(None),
            (false, Some(reason)) => {
                SubscriptionStatus::Inactive(Some(read_name("disabled_reason", &reason)?))
            }
        };
        Ok(Subscription {
            id: SubscriptionId(row.id),
            organization: organization(&row.organization_id)?,
            name: SubscriptionName::from_store(row.name),
            url: TargetUrl::from_store(row.url),
            events: read_event_types(&row.events)?,
            has_secret: row.has_secret,
            header_names: serde_json::from_str(&row.header_names)
                .map_err(|why| corrupt("header_names", why))?,
            status,
            created_at: Timestamp::from_unix_micros(row.created_at),
            updated_at: Timestamp::from_unix_micros(row.updated_at),
            version: row.version,
        })
    }
}

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

pub(crate) fn event_types_text(types: &EventTypes) -> String {
    types
        .iter()
        .map(EventType::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

pub(crate) fn read_event_types(text: &str) -> Result<EventTypes, StoreError> {
    let types = text
        .split(' ')
        .map(read_event_type)
        .collect::<Result<_, _>>()?;
    EventTypes::new(types).map_err(|why| corrupt("events", why))
}

/// The event types of a subscription that this version knows. A newer version may have stored others; this version
/// accepts no event of such a type, so the subscription misses nothing.
pub(crate) fn known_event_types(text: &str) -> EventTypeSet {
    text.split(' ')
        .filter_map(|name| EventType::parse(name).ok())
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

pub(crate) fn corrupt(column: &str, value: impl std::fmt::Display) -> StoreError {
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
}
