//! The log of attempts.

use std::sync::Arc;

use hookline_core::cursor::Cursor;
use hookline_core::delivery::Trigger;
use hookline_core::event_type::EventType;
use hookline_core::http_log::HttpLog;
use hookline_core::ids::{AttemptId, DeliveryId, EventId, OrganizationId, SubscriptionId};
use hookline_core::outcome::FailureKind;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::paging::{PageStart, ResultPage, search};
use crate::store::{Store, run};

pub(crate) mod delivery_details;
pub(crate) mod rows;
pub(crate) mod sql;
pub(crate) mod totals;

#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::IntoStaticStr,
    strum::EnumString,
)]
#[strum(serialize_all = "snake_case")]
pub enum AttemptStatus {
    /// A complete 2xx response.
    Success,
    Failed,
}

impl AttemptStatus {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// A search in the log.
#[derive(Debug, Clone)]
pub struct LogQuery {
    pub organization: OrganizationId,
    /// Only attempts of this subscription.
    pub subscription: Option<SubscriptionId>,
    pub event_type: Option<EventType>,
    pub status: Option<AttemptStatus>,
    pub limit: u32,
    pub start: PageStart,
    /// The most bytes of events that are read. An event beyond them is read up to its first 256 bytes.
    pub body_bytes: usize,
}

/// A text or its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    pub text: Arc<str>,
    pub is_whole: bool,
}

/// An attempt and the event of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub attempt: LoggedAttempt,
    pub request_body: Excerpt,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedAttempt {
    pub id: AttemptId,
    pub delivery_id: DeliveryId,
    pub subscription_id: SubscriptionId,
    pub event_id: EventId,
    pub event_type: EventType,
    pub number: u32,
    pub trigger: Trigger,
    pub status: AttemptStatus,
    pub url: String,
    pub response_status: Option<u16>,
    /// The beginning of the body.
    pub response_body: Option<String>,
    pub error: Option<LoggedError>,
    pub duration_ms: u64,
    pub created_at: Timestamp,
    /// The due time of the next attempt, as decided then.
    pub next_attempt_at: Option<Timestamp>,
    pub http: HttpLog,
}

impl LoggedAttempt {
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedError {
    pub kind: FailureKind,
    pub message: String,
}

impl Store {
    pub async fn log(&self, query: LogQuery) -> Result<ResultPage<LogEntry, u64>, StoreError> {
        let total = self.log_total(&query).await?;
        if total == 0 {
            // The search would read the whole log to find nothing.
            return Ok(ResultPage {
                rows: Vec::new(),
                total,
                searched: None,
            });
        }
        let step = async |reach| {
            let query = query.clone();
            run!(self, read, |conn, q: sql| q::page(conn, &query, reach))
        };
        let (rows, searched) = search(query.start, query.limit, step).await?;
        let room = query.body_bytes;
        let rows = run!(self, read, |conn, q: sql| q::entries(conn, rows, room))?;
        Ok(ResultPage {
            rows,
            total,
            searched,
        })
    }

    async fn log_total(&self, query: &LogQuery) -> Result<u64, StoreError> {
        let (mut total, mut after) = (0, None);
        loop {
            let (query, from) = (query.clone(), after);
            let (sum, end) = run!(self, read, |conn, q: totals| q::sum(
                conn,
                &query,
                from.as_ref()
            ))?;
            total += sum;
            if end.is_none() {
                return Ok(total);
            }
            after = end;
        }
    }
}
