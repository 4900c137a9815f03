//! Rows of the log.

use diesel::prelude::*;
use hookline_core::http_log::{HeaderLog, HttpLog, PhaseTimes, PublicAddress};
use hookline_core::ids::{AttemptId, DeliveryId, EventId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use crate::attempts::{LoggedAttempt, LoggedError};
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::rows::{corrupt, read_event_type, read_name};
use crate::schema::attempts;

/// A row of `attempts`, as it is written and read.
#[derive(Debug, Clone, Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = attempts, treat_none_as_default_value = false)]
pub(crate) struct AttemptRow {
    pub(crate) id: UuidKey,
    pub(crate) delivery_id: UuidKey,
    pub(crate) organization_id: String,
    pub(crate) subscription_id: i64,
    pub(crate) event_key: UuidKey,
    pub(crate) event_type: String,
    pub(crate) attempt: i32,
    pub(crate) trigger: String,
    pub(crate) status: String,
    pub(crate) url: String,
    pub(crate) response_status: Option<i32>,
    pub(crate) response_body: Option<String>,
    pub(crate) error_kind: Option<String>,
    pub(crate) error_message: Option<String>,
    pub(crate) duration_ms: i64,
    pub(crate) created_at: i64,
    pub(crate) next_attempt_at: Option<i64>,
    pub(crate) request_headers: Option<String>,
    pub(crate) response_headers: Option<String>,
    pub(crate) remote_address: Option<String>,
    pub(crate) timings: Option<String>,
}

impl AttemptRow {
    pub(crate) fn into_attempt(self, event_id: String) -> Result<LoggedAttempt, StoreError> {
        let error = match (self.error_kind, self.error_message) {
            (Some(kind), message) => Some(LoggedError {
                kind: read_name("error_kind", &kind)?,
                message: message.unwrap_or_default(),
            }),
            (None, _) => None,
        };
        let times = match self.timings {
            Some(text) => Some(
                PhaseTimes::parse(&text).ok_or_else(|| corrupt("timings", "not four numbers"))?,
            ),
            None => None,
        };
        let remote_address = self.remote_address.as_deref();
        Ok(LoggedAttempt {
            id: AttemptId(self.id.0),
            delivery_id: DeliveryId(self.delivery_id.0),
            subscription_id: SubscriptionId(self.subscription_id),
            event_id: EventId::parse(event_id).map_err(|why| corrupt("event_id", why))?,
            event_type: read_event_type(&self.event_type)?,
            number: u32::try_from(self.attempt).map_err(|why| corrupt("attempt", why))?,
            trigger: read_name("trigger", &self.trigger)?,
            status: read_name("status", &self.status)?,
            url: self.url,
            response_status: self
                .response_status
                .map(u16::try_from)
                .transpose()
                .map_err(|why| corrupt("response_status", why))?,
            response_body: self.response_body,
            error,
            duration_ms: u64::try_from(self.duration_ms).unwrap_or_default(),
            created_at: Timestamp::from_unix_micros(self.created_at),
            next_attempt_at: self.next_attempt_at.map(Timestamp::from_unix_micros),
            http: HttpLog {
                request_headers: self.request_headers.map(HeaderLog::from_store),
                response_headers: self.response_headers.map(HeaderLog::from_store),
                remote_address: remote_address.and_then(PublicAddress::parse),
                times,
            },
        })
    }
}
