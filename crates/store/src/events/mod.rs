//! Intake of events: an event and the deliveries of its fan-out are written in one transaction.

use std::sync::Arc;

use hookline_core::delivery::AttemptTask;
use hookline_core::event::Event;
use hookline_core::ids::SubscriptionId;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;

use crate::error::StoreError;
use crate::fanout_index::FanoutIndex;
use crate::idempotency::Creation;
use crate::store::{Backend, Store, run};

pub(crate) mod details;
pub(crate) mod list;
pub(crate) mod postgres;
pub(crate) mod rows;
pub(crate) mod single_statement;
pub(crate) mod sql;
pub(crate) mod sqlite;

#[derive(Debug, Clone)]
pub struct IncomingEvent {
    pub event: Event,
    pub trace: Option<TraceParent>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IntakeResult {
    /// Events that were not stored before.
    pub new_events: usize,
    /// The first attempts of new deliveries, which are due.
    pub tasks: Vec<AttemptTask>,
}

#[derive(Clone, Copy)]
pub(crate) struct IntakeLimits {
    pub(crate) now: Timestamp,
    /// The most deliveries of one transaction, unless a single event makes more.
    pub(crate) most: usize,
    /// The writer's shard of the roll-up.
    pub(crate) shard: i32,
}

impl Store {
    /// Creates a test event and its delivery. None when the event's organization has no such subscription.
    pub async fn create_test(
        &self,
        id: SubscriptionId,
        event: IncomingEvent,
        making: impl Into<Creation<Option<AttemptTask>>>,
    ) -> Result<Option<AttemptTask>, StoreError> {
        let Creation { now, once } = making.into();
        let once = self.sealing(once)?;
        run!(self, write, |conn,
                           idempotency: crate::idempotency::sql,
                           q: sql| {
            idempotency::once(conn, once, |conn| q::create_test(conn, id, &event, now))
        })
    }

    /// Stores events and their deliveries in one transaction, however many there are.
    pub async fn intake(
        &self,
        index: &FanoutIndex,
        events: Arc<[IncomingEvent]>,
        now: Timestamp,
    ) -> Result<IntakeResult, StoreError> {
        let given = self.intake_at_most(index, events, usize::MAX, now).await?;
        Ok(given.unwrap_or_default())
    }

    /// The same, unless several events would make more than `most` deliveries: then nothing is stored, and the answer is
    /// none. By then `index` knows the number of deliveries of each event, so the caller can split them.
    pub async fn intake_at_most(
        &self,
        index: &FanoutIndex,
        events: Arc<[IncomingEvent]>,
        most: usize,
        now: Timestamp,
    ) -> Result<Option<IntakeResult>, StoreError> {
        let index = index.clone();
        let bounds = IntakeLimits {
            now,
            most,
            shard: self.rollup_shard,
        };
        match &self.backend {
            Backend::Postgres(backend) => {
                backend
                    .run(move |conn| single_statement::intake(conn, &index, &events, bounds))
                    .await
            }
            Backend::Sqlite(backend) => {
                let asked = backend.clone();
                backend
                    .write(move |conn| {
                        index.clear_after_failure(asked.failures());
                        sql::sqlite::intake(conn, &index, &events, bounds)
                    })
                    .await
            }
        }
    }
}
