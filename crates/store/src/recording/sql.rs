//! Queries that record attempts.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use diesel::prelude::*;
use hookline_core::delivery::{AttemptTask, DeliveryKind, DeliveryState, ExhaustedReason, Trigger};
use hookline_core::histogram::Bucket;
use hookline_core::http_log::HeaderLog;
use hookline_core::ids::{AttemptId, DeliveryId, OrganizationId};
use hookline_core::subscription::DisabledReason;
use hookline_core::timestamp::Timestamp;

use crate::attempts::AttemptStatus;
use crate::attempts::rows::AttemptRow;
use crate::backend::backends;
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::recording::{AttemptRecord, AttemptUpdate, NextStep, WriterShards};
use crate::rollup::cell::{Cell, CodeClass, StatsOutcome};
use crate::rows::signed;
use crate::subscriptions::disabling::{AttemptTarget, DisableRequest};

fn made(record: &AttemptRecord) -> AttemptUpdate {
    let took = record.outcome.shown_duration(record.took);
    let at = record.started.after(took);
    let to = match record.next_step {
        NextStep::Delivered => DeliveryState::Delivered { at },
        NextStep::Retry { due } => DeliveryState::Pending { due },
        NextStep::Exhausted(reason) => DeliveryState::Exhausted { at, reason },
    };
    AttemptUpdate {
        row: row_of(record, took),
        generation: signed(record.task.generation),
        to: to.into(),
        cell: cell_of(record, took).pack(),
    }
}

fn cell_of(record: &AttemptRecord, took: Duration) -> Cell {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Cell {
        outcome: match record.next_step {
            NextStep::Delivered => StatsOutcome::Delivered,
            NextStep::Retry { .. } => StatsOutcome::Retried,
            NextStep::Exhausted(_) => StatsOutcome::Exhausted,
        },
        code_class: CodeClass::of(record.outcome.status()),
        error: record.outcome.error().map(|(kind, _)| kind),
        duration: Some(Bucket::of_millis(millis)),
        latency: None,
    }
}

fn row_of(record: &AttemptRecord, took: Duration) -> AttemptRow {
    let AttemptTask {
        delivery,
        generation,
        attempt,
        subscription: _,
    } = record.task;
    let error = record.outcome.error();
    let status = match error {
        None => AttemptStatus::Success,
        Some(_) => AttemptStatus::Failed,
    };
    let (error_kind, error_message) = error.unzip();
    let text = |headers: &Option<HeaderLog>| headers.as_ref().map(|it| it.as_str().to_owned());
    let http = &record.http;
    AttemptRow {
        id: UuidKey(AttemptId::of(delivery, generation, attempt).0),
        delivery_id: UuidKey(delivery.0),
        organization_id: record.organization.as_str().to_owned(),
        subscription_id: record.subscription.0,
        event_key: UuidKey(record.event.0),
        event_type: record.event_type.as_str().to_owned(),
        attempt: signed(attempt),
        trigger: Trigger::of(record.kind, record.run, attempt)
            .as_str()
            .to_owned(),
        status: status.as_str().to_owned(),
        url: record.url.as_str().to_owned(),
        response_status: record.outcome.status().map(i32::from),
        response_body: record.outcome.body().map(str::to_owned),
        error_kind: error_kind.map(|kind| kind.as_str().to_owned()),
        error_message,
        duration_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
        created_at: record.started.unix_micros(),
        next_attempt_at: match record.next_step {
            NextStep::Retry { due } => Some(due.unix_micros()),
            NextStep::Delivered | NextStep::Exhausted(_) => None,
        },
        request_headers: text(&http.request_headers),
        response_headers: text(&http.response_headers),
        remote_address: http.remote_address.map(|address| address.to_string()),
        timings: http.times.map(|times| times.to_string()),
    }
}

backends!(
    with {
        auto_disable: crate::auto_disable::sql,
        subscription_disabling: crate::subscriptions::disabling,
        subscription_version_queries: crate::subscription_version,
        own: crate::recording,
    }

    use backend::Conn;
    use subscription_disabling::{disable, is_unchanged};
    use subscription_version_queries::next_version;

    /// Answers with the deliveries that moved. Nothing is written of the others.
    pub(crate) fn record(
        conn: &mut Conn,
        records: &[AttemptRecord],
        shards: WriterShards,
    ) -> Result<HashSet<DeliveryId>, StoreError> {
        let made: Vec<AttemptUpdate> = records.iter().map(made).collect();
        let ends = |record: &AttemptRecord| matches!(record.next_step, NextStep::Exhausted(_));
        if !records.iter().any(ends) {
            // One statement in PostgreSQL, and a savepoint of SQLite's writer: no transaction is needed.
            return own::record(conn, &made, shards);
        }
        conn.transaction(|conn| {
            let moved = own::record(conn, &made, shards)?;
            let fresh = records
                .iter()
                .filter(|record| moved.contains(&record.task.delivery));
            apply_side_effects(conn, fresh)?;
            Ok(moved)
        })
    }

    /// Side effects on the subscriptions of deliveries that have ended: once for each subscription, and in one order,
    /// because rows are locked. A subscription that has another URL or activation by now stays as it is.
    fn apply_side_effects<'a>(
        conn: &mut Conn,
        fresh: impl Iterator<Item = &'a AttemptRecord>,
    ) -> Result<(), StoreError> {
        let mut gone_targets: BTreeMap<AttemptTarget<'_>, Timestamp> = BTreeMap::new();
        let mut exhausted: BTreeMap<AttemptTarget<'_>, &OrganizationId> = BTreeMap::new();
        for record in fresh {
            let called = AttemptTarget {
                subscription: record.subscription,
                url: record.url.as_str(),
                activation: record.activation,
            };
            match (record.next_step, record.kind) {
                (NextStep::Exhausted(ExhaustedReason::Gone), _) => {
                    let at = record.started.after(record.took);
                    gone_targets.entry(called).or_insert(at);
                }
                (NextStep::Exhausted(_), DeliveryKind::Event) => {
                    exhausted.insert(called, &record.organization);
                }
                (NextStep::Exhausted(_), DeliveryKind::Test)
                | (NextStep::Delivered | NextStep::Retry { .. }, _) => {}
            }
        }
        if !gone_targets.is_empty() {
            // First: while this transaction holds the version row, no subscription changes.
            let version = next_version(conn)?;
            for (called, at) in gone_targets {
                if is_unchanged(conn, called)? {
                    let disabling = DisableRequest {
                        subscription: called.subscription,
                        reason: DisabledReason::Gone,
                        at,
                    };
                    disable(conn, disabling, version)?;
                }
            }
        }
        auto_disable::note(conn, &exhausted)
    }
);
