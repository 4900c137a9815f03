//! The roll-up against the log.

use std::sync::Arc;
use std::time::Duration;

use hookline_core::delivery::{AttemptTask, DeliveryState, ExhaustedReason, StartedBy};
use hookline_core::event_type::EventType;
use hookline_core::histogram::Bucket;
use hookline_core::outcome::{AttemptOutcome, FailureKind, RequestFailure};
use hookline_core::subscription::{SubscriptionPatch, SubscriptionStatus};
use hookline_core::timestamp::Timestamp;
use hookline_store::{
    AttemptRecord, CodeClass, IncomingEvent, NextStep, StatsCounts, StatsGroup, StatsGroupBy,
    StatsOutcome, StatsQuery, StatsScope, StatsSeries, StatsStep, Store, WaitingFor,
};

use crate::fixture::{DAY, Fixture, NOW, at, attempted, event, now, on_both, organization};

mod current;
mod folding;

on_both![
    two_dispatchers_count_what_the_log_has,
    a_repeated_record_counts_once,
    a_step_has_the_attempts_that_began_in_it,
    each_group_has_the_counts_of_the_log,
    percentiles_lie_in_the_buckets_of_the_true_ones,
    a_latency_is_that_of_the_first_run,
    skipped_cancelled_and_dead_deliveries_count_once,
    a_delivery_that_is_restarted_ends_again,
    another_organization_has_no_counts,
];

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;

fn query(group_by: Option<StatsGroupBy>) -> StatsQuery {
    StatsQuery {
        scope: scope(),
        since: at(NOW - 40 * DAY),
        until: at(NOW + 40 * DAY),
        step: StatsStep::Day,
        group_by,
    }
}

fn scope() -> StatsScope {
    StatsScope {
        organization: organization("a"),
        subscription: None,
        event_type: None,
    }
}

async fn series(fixture: &Fixture, query: StatsQuery) -> Vec<StatsSeries> {
    fixture.store.stats(query).await.unwrap().unwrap()
}

async fn total(fixture: &Fixture) -> StatsCounts {
    let series = series(fixture, query(None)).await;
    assert_eq!(series.len(), 1);
    series[0].total.clone()
}

/// Attempts, failed attempts and ended deliveries as the tables have them.
fn in_log(fixture: &Fixture, filter: &str) -> (u64, u64) {
    let count = |sql: &str| fixture.number(sql).unsigned_abs();
    (
        count(&format!("SELECT count(*) FROM attempts WHERE {filter}")),
        count(&format!(
            "SELECT count(*) FROM attempts WHERE status = 'failed' AND {filter}"
        )),
    )
}

fn next(task: AttemptTask) -> AttemptTask {
    AttemptTask {
        attempt: task.attempt + 1,
        ..task
    }
}

/// First attempts of some events to one subscription, with their outcomes chosen by number.
async fn records(fixture: &Fixture, count: usize) -> Vec<AttemptRecord> {
    let to = fixture.subscribe("a").await.id;
    let events: Vec<IncomingEvent> = (0..count).map(|id| event("a", &id.to_string())).collect();
    let given = fixture.intake(events.clone()).await;
    let by_number = given.tasks.iter().zip(&events).enumerate();
    by_number
        .map(|(number, (task, event))| {
            let next_step = match number % 3 {
                0 => NextStep::Delivered,
                1 => NextStep::Retry { due: now() },
                _ => NextStep::Exhausted(ExhaustedReason::OutOfAttempts),
            };
            let millis = number as u64 * 7 % 900;
            let mut record = attempted(*task, to, event, next_step);
            record.task.subscription = to;
            record.subscription = task.subscription;
            record.took = Duration::from_millis(millis);
            record.started = at(NOW + (number as i64 % 5) * MINUTE);
            if number % 6 == 1 {
                record.outcome = timed_out();
            }
            record
        })
        .collect()
}

fn timed_out() -> AttemptOutcome {
    AttemptOutcome::Failed(RequestFailure {
        kind: FailureKind::Timeout,
        message: "late".to_owned(),
        status: None,
    })
}

async fn two_dispatchers_count_what_the_log_has(fixture: Fixture) {
    let records = records(&fixture, 300).await;
    let mut dispatchers = tokio::task::JoinSet::new();
    for dispatcher in 0..2 {
        // The second store has a shard of its own, as another process has. In a folder there is one.
        let store = match dispatcher {
            1 if fixture.is_postgres() => fixture.locked(),
            _ => fixture.store.clone(),
        };
        let mut records = records.clone();
        records.rotate_left(dispatcher * 100);
        dispatchers.spawn(async move {
            let mut moved = 0;
            for some in records.chunks(17) {
                moved += store.record(Arc::from(some)).await.unwrap().len();
            }
            moved
        });
    }
    let moved: usize = dispatchers.join_all().await.into_iter().sum();
    assert_eq!(moved, 300);
    let total = total(&fixture).await;
    let (attempts, failed) = in_log(&fixture, "organization_id = 'a'");
    assert_eq!((total.attempts, total.failed_attempts), (attempts, failed));
    assert_eq!((attempts, failed), (300, 200));
    let ended = |state: &str| {
        let sql = format!("SELECT count(*) FROM deliveries WHERE state = '{state}'");
        fixture.number(&sql).unsigned_abs()
    };
    assert_eq!(total.delivered, ended("delivered"));
    assert_eq!(total.exhausted, ended("exhausted"));
}

async fn a_repeated_record_counts_once(fixture: Fixture) {
    let records = records(&fixture, 10).await;
    for _ in 0..3 {
        fixture.record(records.clone()).await;
    }
    assert_eq!(total(&fixture).await.attempts, 10);
}

async fn a_step_has_the_attempts_that_began_in_it(fixture: Fixture) {
    fixture.record(records(&fixture, 25).await).await;
    let minutes = StatsQuery {
        since: at(NOW - NOW % HOUR),
        until: at(NOW - NOW % HOUR + 2 * HOUR),
        step: StatsStep::Minute,
        ..query(None)
    };
    let series = series(&fixture, minutes.clone()).await;
    assert_eq!(series[0].points.len(), 5);
    for (from, counts) in &series[0].points {
        let begin = from.unix_micros();
        assert_eq!(begin % MINUTE, 0);
        let filter = format!("created_at >= {begin} AND created_at < {}", begin + MINUTE);
        assert_eq!(
            (counts.attempts, counts.failed_attempts),
            in_log(&fixture, &filter)
        );
    }
    let second = *series[0].points.keys().nth(1).unwrap();
    let of_one = StatsQuery {
        since: second,
        until: at(second.unix_micros() + MINUTE),
        ..minutes
    };
    let series = self::series(&fixture, of_one).await;
    assert_eq!(series[0].points.keys().collect::<Vec<_>>(), [&second]);
}

async fn each_group_has_the_counts_of_the_log(fixture: Fixture) {
    let first = records(&fixture, 60).await;
    let to = first[0].task.subscription;
    fixture.record(first).await;
    let by = async |group_by, group| {
        let series = series(&fixture, query(Some(group_by))).await;
        let found = series.into_iter().find(|one| one.group == group);
        found.map(|one| one.total.attempts)
    };
    let in_log = |filter: &str| Some(in_log(&fixture, filter).0);
    for (status, class) in [
        ("response_status IS NULL", CodeClass::None),
        ("response_status = 200", CodeClass::Successful),
        ("response_status = 500", CodeClass::ServerError),
    ] {
        let counted = by(StatsGroupBy::CodeClass, StatsGroup::CodeClass(class)).await;
        assert_eq!(counted, in_log(status), "{status}");
    }
    for kind in [None, Some("timeout"), Some("http_status")] {
        let filter = kind.map_or("error_kind IS NULL".to_owned(), |kind| {
            format!("error_kind = '{kind}'")
        });
        let counted = by(StatsGroupBy::ErrorKind, StatsGroup::ErrorKind(kind)).await;
        assert_eq!(counted, in_log(&filter), "{filter}");
    }
    let retried = by(
        StatsGroupBy::Outcome,
        StatsGroup::Outcome(StatsOutcome::Retried),
    );
    assert_eq!(retried.await, in_log("next_attempt_at IS NOT NULL"));
    let of_type = by(
        StatsGroupBy::EventType,
        StatsGroup::EventType("workflow.failed".to_owned()),
    );
    assert_eq!(of_type.await, Some(60));

    // Another subscription gets a delivery of each later event, too.
    fixture.subscribe("a").await;
    let task = fixture.intake(vec![event("a", "later")]).await.tasks;
    let later = task.iter().map(|task| {
        attempted(
            *task,
            task.subscription,
            &event("a", "later"),
            NextStep::Delivered,
        )
    });
    fixture.record(later.collect()).await;
    let subscriptions = series(&fixture, query(Some(StatsGroupBy::SubscriptionId))).await;
    let attempts: Vec<u64> = subscriptions.iter().map(|one| one.total.attempts).collect();
    assert_eq!(attempts, [61, 1]);
    let mut of_one = query(None);
    of_one.scope.subscription = Some(to);
    assert_eq!(series(&fixture, of_one).await[0].total.attempts, 61);
    let mut of_other_type = query(Some(StatsGroupBy::SubscriptionId));
    of_other_type.scope.event_type = Some(EventType::parse("workflow.started").unwrap());
    assert!(series(&fixture, of_other_type).await.is_empty());
}

async fn percentiles_lie_in_the_buckets_of_the_true_ones(fixture: Fixture) {
    let records = records(&fixture, 200).await;
    let mut durations: Vec<u64> = records
        .iter()
        .map(|record| u64::try_from(record.took.as_millis()).unwrap())
        .collect();
    durations.sort_unstable();
    fixture.record(records).await;
    let total = total(&fixture).await;
    for percent in [50, 95, 99] {
        let true_one = durations[(durations.len() * percent).div_ceil(100) - 1];
        let estimate = total.durations.percentile(percent as u64).unwrap();
        let (estimate, true_one) = (
            Bucket::of_millis(estimate as u64),
            Bucket::of_millis(true_one),
        );
        assert_eq!(estimate, true_one, "p{percent}");
    }
}

async fn a_latency_is_that_of_the_first_run(fixture: Fixture) {
    fixture.subscribe("a").await;
    let task = fixture.task("a", "1").await;
    let mut record = attempted(
        task,
        task.subscription,
        &event("a", "1"),
        NextStep::Delivered,
    );
    record.started = at(NOW + 30_000_000);
    record.took = Duration::from_millis(100);
    fixture.record(vec![record.clone()]).await;
    let latency = total(&fixture).await.latencies.percentile(50).unwrap();
    assert_eq!(
        Bucket::of_millis(latency as u64),
        Bucket::of_millis(30_100),
        "{latency}"
    );
    let restarted = fixture
        .store
        .restart(None, task.delivery, StartedBy::Retry, now());
    restarted.await.unwrap();
    record.task = AttemptTask {
        generation: 1,
        ..next(task)
    };
    record.started = at(NOW + DAY);
    fixture.record(vec![record]).await;
    let total = total(&fixture).await;
    assert_eq!(total.attempts, 2);
    assert_eq!(total.latencies.percentile(99), Some(latency));
}

async fn switch_off(fixture: &Fixture, task: AttemptTask) {
    let patch = SubscriptionPatch {
        status: Some(SubscriptionStatus::Inactive(None)),
        ..Default::default()
    };
    let changed =
        fixture
            .store
            .change_subscription(organization("a"), task.subscription, patch, now());
    changed.await.unwrap();
}

async fn skipped_cancelled_and_dead_deliveries_count_once(fixture: Fixture) {
    fixture.subscribe("a").await;
    let mut tasks = Vec::new();
    for id in ["1", "2", "3"] {
        tasks.push(fixture.task("a", id).await);
    }
    let store = &fixture.store;
    for _ in 0..2 {
        let skipped = DeliveryState::Skipped { at: now() };
        store.end(vec![tasks[0]], skipped).await.unwrap();
        let cancelled = DeliveryState::Cancelled { at: now() };
        store.end(vec![tasks[1]], cancelled).await.unwrap();
        let dead = store.dead_letter_delivery(tasks[2], "bad".to_owned(), now());
        dead.await.unwrap();
    }
    switch_off(&fixture, tasks[0]).await;
    for _ in 0..2 {
        // Skipped with its intake.
        assert!(fixture.intake(vec![event("a", "4")]).await.tasks.is_empty());
    }
    let total = total(&fixture).await;
    assert_eq!((total.skipped, total.cancelled, total.exhausted), (2, 1, 1));
    assert_eq!((total.attempts, total.durations.percentile(50)), (0, None));
}

async fn a_delivery_that_is_restarted_ends_again(fixture: Fixture) {
    fixture.subscribe("a").await;
    let task = fixture.task("a", "1").await;
    let ended = |at| DeliveryState::Skipped { at };
    fixture.store.end(vec![task], ended(now())).await.unwrap();
    let restarted = fixture
        .store
        .restart(None, task.delivery, StartedBy::Retry, now());
    restarted.await.unwrap();
    let again = AttemptTask {
        generation: 1,
        ..task
    };
    let record = attempted(
        again,
        task.subscription,
        &event("a", "1"),
        NextStep::Delivered,
    );
    fixture.record(vec![record]).await;
    let total = total(&fixture).await;
    assert_eq!((total.skipped, total.delivered, total.attempts), (1, 1, 1));
}

async fn another_organization_has_no_counts(fixture: Fixture) {
    fixture.record(records(&fixture, 5).await).await;
    let mut of_other = query(None);
    of_other.scope.organization = organization("b");
    let series = series(&fixture, of_other).await;
    assert_eq!(series[0].total, StatsCounts::default());
}
