//! Deliveries as their owner sees them.

use std::sync::Arc;

use hookline_core::cursor::Cursor;
use hookline_core::delivery::{AttemptTask, DeliveryKind, ExhaustedReason, StartedBy};
use hookline_core::event_type::EventType;
use hookline_core::filter::Filter;
use hookline_core::ids::{DeliveryId, EventId, OrganizationId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use crate::backlog::BacklogClass;
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::paging::{COUNT_STEPS, PageStart, ResultPage, count};
use crate::search::excerpts::Excerpt;
use crate::search::{SearchRange, search};
use crate::store::{Store, run};

pub(crate) mod cancel;
pub(crate) mod dead_deliveries;
pub(crate) mod due;
pub(crate) mod ends;
pub(crate) mod locks;
pub(crate) mod postgres;
pub(crate) mod restart;
pub(crate) mod sql;
pub(crate) mod sqlite;

/// The state of a delivery for its owner. The store marks a void delivery only when its turn comes; its owner sees that
/// at once.
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
pub enum DeliveryStatus {
    Pending,
    /// The receiver has it.
    Delivered,
    /// No further attempt is made.
    Exhausted,
    /// Its subscription was inactive, or was switched off before the attempt.
    Skipped,
    /// Its owner cancelled it, or its subscription was deleted before the attempt.
    Cancelled,
}

impl DeliveryStatus {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// The reason why a pending delivery waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum WaitingFor {
    /// The due time of the next attempt.
    Retry,
    /// The circuit breaker of the subscription is open.
    Breaker,
    /// All slots of the subscription are in use.
    Concurrency,
}

impl WaitingFor {
    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A search for deliveries of an organization or a subscription.
#[derive(Debug, Clone)]
pub struct DeliveryQuery {
    pub organization: OrganizationId,
    pub filter: Filter<DeliveryStatus>,
    pub limit: u32,
    pub start: PageStart,
    /// The most bytes of events that are read, if any. An event beyond them is read up to its first 256 bytes.
    pub body_bytes: Option<usize>,
}

impl DeliveryQuery {
    /// The subscription, where the filter has only this and what its deliveries are counted by.
    fn counted(&self) -> Option<SubscriptionId> {
        let counted = Filter {
            since: self.filter.since,
            until: self.filter.until,
            event_type: self.filter.event_type,
            status: self.filter.status,
            subscription: self.filter.subscription,
            ..Filter::default()
        };
        self.filter.subscription.filter(|_| self.filter == counted)
    }

    /// Whether the count filters by more than the age, which is all that the index answers.
    pub(crate) fn is_filtered(&self) -> bool {
        self.filter.status.is_some() || self.filter.event_type.is_some()
    }
}

/// A delivery and its event's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryEntry {
    pub delivery: Delivery,
    /// None where bodies are not read.
    pub request_body: Option<Excerpt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: DeliveryId,
    pub subscription: SubscriptionId,
    pub event_id: EventId,
    pub event_type: EventType,
    pub kind: DeliveryKind,
    pub status: DeliveryStatus,
    pub attempts_made: u32,
    pub next_attempt_at: Option<Timestamp>,
    /// None where the attempt is about to be made.
    pub waiting_for: Option<WaitingFor>,
    pub created_at: Timestamp,
    /// None also while the store has not yet marked a void delivery.
    pub finished_at: Option<Timestamp>,
    pub exhausted_reason: Option<ExhaustedReason>,
}

impl Delivery {
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartResult {
    /// This attempt is due now.
    Started(AttemptTask),
    /// The organization has no such delivery.
    Unknown,
    /// It is pending anyway.
    Pending,
    /// The receiver has it, and the request excludes such a delivery.
    Delivered,
    /// Its subscription is inactive, so nothing would be sent.
    Inactive,
    Deleted,
}

/// The cases in which [`Store::retry`] does more or less than a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryCases {
    pub pending: PendingCase,
    pub delivered: DeliveredCase,
}

/// A retry of a pending delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingCase {
    Refused,
    /// The next attempt is due at once. It keeps its number, and its place in the retry schedule.
    BroughtForward,
}

/// A retry of a delivery that the receiver has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveredCase {
    Restarted,
    Refused,
}

/// A delivery to restart, and the present activation of its subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RestartKey {
    pub(crate) delivery: UuidKey,
    pub(crate) activation: i64,
}

/// A restart of deliveries: the next generation of each. Attempt numbers continue, and the retry
/// schedule starts from the beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Restart<'a> {
    pub(crate) started_by: StartedBy,
    /// The states to restart from. [`Restart::VOID`] includes pending deliveries from before the subscription was switched
    /// off, which would be skipped.
    pub(crate) from: &'a [&'static str],
    pub(crate) now: Timestamp,
}

impl Restart<'_> {
    /// The state of a delivery that its subscription no longer receives.
    pub(crate) const VOID: &'static str = "skipped";

    /// Whether it includes pending deliveries of an earlier activation.
    pub(crate) fn takes_void(&self) -> bool {
        self.from.contains(&Self::VOID)
    }

    /// The backlog class of a restarted delivery: no other delivery queues behind a replay.
    pub(crate) fn backlog(&self) -> Option<i16> {
        (self.started_by == StartedBy::Replay).then(|| BacklogClass::Replay.number())
    }
}

impl Store {
    /// Newest first. The total is none where a filter by status or type would look at more than 100,000 deliveries, and with
    /// any other filter.
    pub async fn deliveries(
        &self,
        query: DeliveryQuery,
    ) -> Result<ResultPage<DeliveryEntry, Option<u64>>, StoreError> {
        let total = match query.counted() {
            Some(subscription) => self.count_deliveries(&query, subscription).await?,
            None => None,
        };
        let (start, limit, room) = (query.start, query.limit, query.body_bytes);
        let range = SearchRange::of(query.filter.since, query.filter.until);
        let Some(plan) = run!(self, read, |conn, q: sql| q::plan(conn, query))? else {
            return Ok(ResultPage::empty(total));
        };
        let plan = Arc::new(plan);
        let step = async |range, share| {
            let plan = Arc::clone(&plan);
            run!(self, read, |conn, q: sql| q::step(
                conn, &plan, range, share
            ))
        };
        let (found, searched) = search(start, limit, range, &plan.keys, step).await?;
        let rows = run!(self, read, |conn, q: sql| q::entries(conn, &found, room))?;
        Ok(ResultPage {
            rows,
            total,
            searched,
        })
    }

    async fn count_deliveries(
        &self,
        query: &DeliveryQuery,
        subscription: SubscriptionId,
    ) -> Result<Option<u64>, StoreError> {
        let steps = match query.is_filtered() {
            true => COUNT_STEPS,
            false => usize::MAX,
        };
        let total = count(steps, async |after| {
            let query = query.clone();
            run!(self, read, |conn, q: sql| q::count(
                conn,
                &query,
                subscription,
                after
            ))
        });
        total.await
    }
}
