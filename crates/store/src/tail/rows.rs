//! Rows of the tail.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use hookline_core::ids::{DeliveryId, EventId, OrganizationId, SubscriptionId, WorkflowId};
use hookline_core::timestamp::Timestamp;

use crate::attempts::rows::AttemptRow;
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::rows::{corrupt, organization, read_event_type, read_name};
use crate::tail::{DeliveryEnd, LogPlace, SubscriptionEvent, TailEntry, TailRow};

/// A row that was found.
#[derive(Debug, Clone, QueryableByName)]
pub(crate) struct FoundPlace {
    #[diesel(sql_type = BigInt)]
    pub(crate) recorded_in: i64,
    #[diesel(sql_type = UuidColumn)]
    pub(crate) id: UuidKey,
    /// The time of an attempt.
    #[diesel(sql_type = BigInt)]
    pub(crate) at: i64,
    /// SQLite's rowid of an attempt.
    #[diesel(sql_type = BigInt)]
    pub(crate) place: i64,
    /// It is a row of `stream_changes`.
    #[diesel(sql_type = Bool)]
    pub(crate) is_change: bool,
    #[diesel(sql_type = Text)]
    pub(crate) organization_id: String,
}

impl FoundPlace {
    pub(crate) fn log_place(&self) -> LogPlace {
        LogPlace {
            recorded_in: self.recorded_in,
            id: self.id.0,
        }
    }
}

/// The columns of [`TailedAttempt`]: the tables are `a` for attempts and `e` for events. No response's body is read.
pub(crate) const OF_ATTEMPTS: &str = "SELECT a.id, a.delivery_id, a.organization_id, a.subscription_id, a.event_key, \
     a.event_type, a.attempt, a.trigger, a.status, a.url, a.response_status, CAST(NULL AS TEXT) AS response_body, \
     a.error_kind, a.error_message, a.duration_ms, a.created_at, a.next_attempt_at, a.request_headers, \
     a.response_headers, a.remote_address, a.timings, a.recorded_in, e.event_id, e.workflow_id ";

#[derive(QueryableByName)]
pub(crate) struct TailedAttempt {
    #[diesel(embed)]
    attempt: AttemptRow,
    #[diesel(sql_type = BigInt)]
    recorded_in: i64,
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    workflow_id: Option<String>,
}

impl TailedAttempt {
    fn read(self) -> Result<TailRow, StoreError> {
        Ok(TailRow {
            organization: organization(&self.attempt.organization_id)?,
            place: LogPlace {
                recorded_in: self.recorded_in,
                id: self.attempt.id.0,
            },
            entry: TailEntry::Attempt {
                attempt: Box::new(self.attempt.into_attempt(self.event_id)?),
                workflow: read_workflow(self.workflow_id)?,
            },
        })
    }
}

/// The columns of [`ChangeRow`]: the tables are `c` for changes and `e` for events.
pub(crate) const OF_CHANGES: &str = "SELECT c.organization_id, c.recorded_in, c.id, c.subscription_id, c.kind, c.reason, \
     c.delivery_id, c.event_type, c.attempts, c.at, e.event_id, e.workflow_id ";

#[derive(QueryableByName)]
pub(crate) struct ChangeRow {
    #[diesel(sql_type = Text)]
    organization_id: String,
    #[diesel(sql_type = BigInt)]
    recorded_in: i64,
    #[diesel(sql_type = UuidColumn)]
    id: UuidKey,
    #[diesel(sql_type = BigInt)]
    subscription_id: i64,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = Nullable<UuidColumn>)]
    delivery_id: Option<UuidKey>,
    #[diesel(sql_type = Nullable<Text>)]
    event_type: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    attempts: Option<i32>,
    #[diesel(sql_type = BigInt)]
    at: i64,
    #[diesel(sql_type = Nullable<Text>)]
    event_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    workflow_id: Option<String>,
}

impl ChangeRow {
    fn read(self) -> Result<TailRow, StoreError> {
        let subscription = SubscriptionId(self.subscription_id);
        let at = Timestamp::from_unix_micros(self.at);
        let entry = match self.delivery_id {
            None => TailEntry::Subscription(SubscriptionEvent {
                subscription,
                change: read_name("kind", &self.kind)?,
                disabled_reason: self.reason,
                at,
            }),
            Some(delivery) => {
                let event = self.event_id.unwrap_or_default();
                TailEntry::DeliveryEnd(DeliveryEnd {
                    delivery: DeliveryId(delivery.0),
                    subscription,
                    event: EventId::parse(event).map_err(|why| corrupt("event_id", why))?,
                    event_type: read_event_type(&self.event_type.unwrap_or_default())?,
                    workflow: read_workflow(self.workflow_id)?,
                    status: read_name("kind", &self.kind)?,
                    attempts: self.attempts.unwrap_or_default().unsigned_abs(),
                    at,
                })
            }
        };
        Ok(TailRow {
            organization: organization(&self.organization_id)?,
            place: LogPlace {
                recorded_in: self.recorded_in,
                id: self.id.0,
            },
            entry,
        })
    }
}

fn read_workflow(id: Option<String>) -> Result<Option<WorkflowId>, StoreError> {
    let read = id.map(WorkflowId::parse).transpose();
    read.map_err(|why| corrupt("workflow_id", why))
}

/// The rows of a page in the order of their places. A row that this version cannot read, such as one with the event type of
/// a newer version, is left out: streams would stop before it for ever.
pub(crate) fn in_order(attempts: Vec<TailedAttempt>, changes: Vec<ChangeRow>) -> Vec<TailRow> {
    let attempts = attempts.into_iter().map(TailedAttempt::read);
    let changes = changes.into_iter().map(ChangeRow::read);
    let readable = |row: Result<TailRow, StoreError>| {
        row.inspect_err(|why| tracing::debug!(error = %why, "left a row out of streams"))
            .ok()
    };
    let mut rows: Vec<TailRow> = attempts.chain(changes).filter_map(readable).collect();
    rows.sort_unstable_by_key(|row| row.place);
    rows
}

/// The names of organizations, as queries take them.
pub(crate) fn names(organizations: &[OrganizationId]) -> Vec<&str> {
    organizations.iter().map(OrganizationId::as_str).collect()
}
