//! Records attempts: each is logged once, and moves its delivery.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::delivery::{AttemptTask, DeliveryKind, ExhaustedReason, RetryRun};
use hookline_core::event_type::EventType;
use hookline_core::http_log::HttpLog;
use hookline_core::ids::{DeliveryId, EventKey, OrganizationId, SubscriptionId};
use hookline_core::outcome::AttemptOutcome;
use hookline_core::target::TargetUrl;
use hookline_core::timestamp::Timestamp;

use crate::attempts::rows::AttemptRow;
use crate::error::StoreError;
use crate::rows::StateColumns;
use crate::store::{Store, run};

pub(crate) mod postgres;
pub(crate) mod sql;
pub(crate) mod sqlite;

/// A finished attempt and the next step of its delivery.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    pub task: AttemptTask,
    pub kind: DeliveryKind,
    pub run: RetryRun,
    pub organization: OrganizationId,
    pub subscription: SubscriptionId,
    pub event: EventKey,
    pub event_type: EventType,
    pub url: TargetUrl,
    /// The subscription's activation at the time of the attempt. Its outcome tells about the receiver of this activation
    /// and this URL only.
    pub activation: i64,
    pub outcome: AttemptOutcome,
    pub http: HttpLog,
    pub started: Timestamp,
    pub took: Duration,
    pub next_step: NextStep,
}

/// The state of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// The receiver has it.
    Delivered,
    Retry {
        due: Timestamp,
    },
    /// No further attempt.
    Exhausted(ExhaustedReason),
}

/// An attempt, and the new state of its delivery.
pub(crate) struct AttemptUpdate {
    pub(crate) row: AttemptRow,
    pub(crate) generation: i32,
    pub(crate) to: StateColumns,
    /// Its cell in the roll-up, without the latency.
    pub(crate) cell: i32,
}

/// The shards of a writer.
#[derive(Clone, Copy)]
pub(crate) struct WriterShards {
    pub(crate) counts: i32,
    pub(crate) rollup: i32,
}

/// The generation of a delivery's first run, which alone has a latency: a restart is no part of the way of its event.
pub(crate) const FIRST_RUN: i32 = 0;

impl Store {
    /// Moves deliveries to the next state and logs their attempts, unless that was done before. Answers with those that
    /// moved. `records` has each delivery once at most.
    pub async fn record(
        &self,
        records: Arc<[AttemptRecord]>,
    ) -> Result<HashSet<DeliveryId>, StoreError> {
        let shards = WriterShards {
            counts: self.shard,
            rollup: self.rollup_shard,
        };
        run!(self, write, |conn, q: sql| q::record(
            conn, &records, shards
        ))
    }
}
