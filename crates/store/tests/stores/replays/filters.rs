//! The filter of a replay, and deliveries that are pending.

use std::collections::BTreeSet;
use std::time::Duration;

use hookline_core::delivery::{AttemptTask, DeliveryState, ExhaustedReason, StartedBy};
use hookline_core::event_type::{EventType, EventTypes};
use hookline_core::filter::{Filter, ResponseCodes};
use hookline_core::ids::{EventId, WorkflowId};
use hookline_core::outcome::{AttemptOutcome, FailureKind, ReceiverResponse, RequestFailure};
use hookline_core::replay::{ReplayFilter, ReplayStatus};
use hookline_store::{AttemptRecord, NextStep, ReplayOutcome, ReplayState};

use super::{PACE, SECOND, count, exhausted, finish, ids, later, shown, sorted, start, turn};
use crate::fixture::{Fixture, NOW, at, attempted, event, now, on_both};

on_both![
    a_replay_is_narrowed_by_every_condition,
    waiting_deliveries_are_brought_forward_and_count_on,
    a_delivery_that_is_brought_forward_in_flight_is_recorded_once,
    several_statuses_are_replayed_together,
    a_replay_goes_on_with_its_filter_after_a_restart,
    a_replay_of_an_earlier_version_goes_on,
];

fn only(status: ReplayStatus) -> ReplayFilter {
    ReplayFilter {
        statuses: BTreeSet::from([status]),
        ..Default::default()
    }
}

fn under(conditions: Filter<std::convert::Infallible>) -> ReplayFilter {
    ReplayFilter {
        conditions,
        ..Default::default()
    }
}

async fn recorded(fixture: &Fixture, id: &str, change: impl FnOnce(&mut AttemptRecord)) {
    let task = fixture.task("a", id).await;
    let end = NextStep::Exhausted(ExhaustedReason::OutOfAttempts);
    let mut record = attempted(task, task.subscription, &event("a", id), end);
    change(&mut record);
    assert_eq!(fixture.record(vec![record]).await.len(), 1);
}

async fn a_replay_is_narrowed_by_every_condition(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    recorded(&fixture, "500", |_| {}).await;
    recorded(&fixture, "503", |record| {
        record.outcome = AttemptOutcome::Answered(ReceiverResponse {
            status: 503,
            body: String::new(),
            retry_after: None,
            location: None,
        });
    })
    .await;
    recorded(&fixture, "timeout", |record| {
        record.took = Duration::from_secs(15);
        record.outcome = AttemptOutcome::Failed(RequestFailure {
            kind: FailureKind::Timeout,
            message: "too slow".to_owned(),
            status: None,
        });
    })
    .await;
    let none = Filter::default;
    let codes = |text| Filter {
        response_status: ResponseCodes::parse(text).ok(),
        ..none()
    };
    let of_kind = |kind| Filter {
        error_kind: Some(kind),
        ..none()
    };
    let workflow = |id: &str| Filter {
        workflow: WorkflowId::parse(id).ok(),
        ..none()
    };
    for (conditions, expected) in [
        (codes("503"), vec!["503"]),
        (codes("5xx"), vec!["500", "503"]),
        (of_kind(FailureKind::Timeout), vec!["timeout"]),
        (of_kind(FailureKind::Dns), vec![]),
        (
            Filter {
                event: EventId::parse("500").ok(),
                ..none()
            },
            vec!["500"],
        ),
        (workflow("w"), vec!["500", "503", "timeout"]),
        (workflow("v"), vec![]),
        (
            Filter {
                min_duration_ms: Some(1_000),
                ..none()
            },
            vec!["timeout"],
        ),
        (
            Filter {
                attempt: Some(2),
                ..none()
            },
            vec![],
        ),
        (
            Filter {
                event_type: Some(EventType::WorkflowStarted),
                ..none()
            },
            vec![],
        ),
        (
            Filter {
                attempt: Some(1),
                event_type: Some(EventType::WorkflowFailed),
                ..codes("500-502")
            },
            vec!["500"],
        ),
    ] {
        let filter = under(conditions);
        let counted = count(&fixture, to, filter.clone()).await;
        let all = ReplayOutcome::Deliveries(expected.len() as u64);
        assert_eq!(counted, all, "{filter:?}");
    }
    let filter = under(Filter {
        workflow: WorkflowId::parse("w").ok(),
        ..codes("5xx")
    });
    let id = start(&fixture, to, filter.clone()).await;
    let tasks = finish(&fixture.store).await;
    assert_eq!(ids(&tasks), sorted(to, &["500", "503"]));
    assert_eq!(shown(&fixture, id).await.filter, filter);
}

/// A delivery that waits for its second attempt until then.
async fn waits(fixture: &Fixture, id: &str, until: i64) -> AttemptTask {
    let task = fixture.task("a", id).await;
    let retry = NextStep::Retry {
        due: at(NOW + until),
    };
    let record = attempted(task, task.subscription, &event("a", id), retry);
    assert_eq!(fixture.record(vec![record]).await.len(), 1);
    AttemptTask { attempt: 2, ..task }
}

async fn waiting_deliveries_are_brought_forward_and_count_on(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let far = waits(&fixture, "far", 3_600 * SECOND).await;
    let near = waits(&fixture, "near", 60 * SECOND).await;
    // Due since its intake, so its request may be on its way.
    fixture.task("a", "due").await;
    exhausted(&fixture, to, &["exhausted"]).await;
    let pending = only(ReplayStatus::Pending);
    let counted = count(&fixture, to, pending.clone()).await;
    assert_eq!(counted, ReplayOutcome::Deliveries(2));

    let id = start(&fixture, to, pending.clone()).await;
    let mut tasks = finish(&fixture.store).await;
    tasks.sort_unstable_by_key(|task| task.delivery);
    let mut expected = vec![far, near];
    expected.sort_unstable_by_key(|task| task.delivery);
    assert_eq!(tasks, expected, "generation and attempt stay");
    assert_eq!(shown(&fixture, id).await.replayed, 2);
    let rows = fixture.store.due_deliveries(vec![far.delivery]).await;
    let row = rows.unwrap()[&far.delivery].clone();
    assert_eq!(row.state, DeliveryState::Pending { due: later() });
    assert_eq!((row.attempts, row.run.started_by), (1, StartedBy::First));
    let again = count(&fixture, to, pending).await;
    assert_eq!(again, ReplayOutcome::Deliveries(0));

    let record = attempted(far, to, &event("a", "far"), NextStep::Delivered);
    assert_eq!(fixture.record(vec![record.clone()]).await.len(), 1);
    assert_eq!(fixture.record(vec![record]).await.len(), 0);
}

async fn a_delivery_that_is_brought_forward_in_flight_is_recorded_once(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    // A request may start up to a second before it is due.
    let task = waits(&fixture, "1", SECOND + SECOND / 2).await;
    start(&fixture, to, only(ReplayStatus::Pending)).await;
    assert_eq!(finish(&fixture.store).await, [task]);
    let record = attempted(task, to, &event("a", "1"), NextStep::Delivered);
    assert_eq!(fixture.record(vec![record]).await.len(), 1);
    let far = at(NOW + 99 * SECOND);
    assert_eq!(fixture.store.count_due(far, 10).await.unwrap(), 0);
    assert_eq!(fixture.store.list_backlog(None).await.unwrap(), []);
    assert_eq!(fixture.number("SELECT count(*) FROM attempts"), 2);
}

async fn several_statuses_are_replayed_together(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    waits(&fixture, "waiting", 3_600 * SECOND).await;
    exhausted(&fixture, to, &["exhausted"]).await;
    super::ended(&fixture, to, "delivered", NextStep::Delivered).await;
    let cancelled = fixture.task("a", "cancelled").await.delivery;
    let owner = crate::fixture::organization("a");
    let cancel = fixture.store.cancel_delivery(owner, cancelled, now());
    cancel.await.unwrap();
    for (statuses, expected) in [
        (vec![ReplayStatus::Cancelled], vec!["cancelled"]),
        (
            vec![ReplayStatus::Pending, ReplayStatus::Exhausted],
            vec!["exhausted", "waiting"],
        ),
    ] {
        let filter = ReplayFilter {
            statuses: statuses.into_iter().collect(),
            ..Default::default()
        };
        start(&fixture, to, filter).await;
        let tasks = finish(&fixture.store).await;
        assert_eq!(ids(&tasks), sorted(to, &expected));
    }
    // A delivery that a replay has restarted is due, so the same replay does not bring it forward, too.
    let generation = "SELECT max(generation) FROM deliveries";
    assert_eq!(fixture.number(generation), 1);
}

async fn a_replay_goes_on_with_its_filter_after_a_restart(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    exhausted(&fixture, to, &["1", "2", "3", "4"]).await;
    recorded(&fixture, "other", |record| {
        record.outcome = AttemptOutcome::Failed(RequestFailure {
            kind: FailureKind::Dns,
            message: String::new(),
            status: None,
        });
    })
    .await;
    let filter = under(Filter {
        response_status: ResponseCodes::parse("500").ok(),
        ..Filter::default()
    });
    let id = start(&fixture, to, filter).await;
    let first = turn(&fixture.store, SECOND).await.unwrap();
    assert_eq!(first.len(), 2);
    // The dispatcher that leased the next step dies.
    let (when, until) = (at(NOW + 2 * SECOND), at(NOW + 7 * SECOND));
    let lost = fixture.store.lease_replay(when, until).await.unwrap();
    assert!(lost.is_some());
    let another = fixture.locked();
    let second = turn(&another, 7 * SECOND).await.unwrap();
    assert_eq!(second.len(), 2);
    assert_eq!(turn(&another, 9 * SECOND).await.unwrap(), []);
    let late = at(NOW + 9 * SECOND);
    let late = another.replay_step(lost.unwrap(), PACE, late).await;
    assert_eq!(late.unwrap(), []);
    let all: Vec<AttemptTask> = first.into_iter().chain(second).collect();
    assert_eq!(ids(&all), sorted(to, &["1", "2", "3", "4"]));
    assert!(matches!(
        shown(&fixture, id).await.state,
        ReplayState::Finished { .. }
    ));
}

async fn a_replay_of_an_earlier_version_goes_on(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    exhausted(&fixture, to, &["1", "2", "3"]).await;
    let id = start(&fixture, to, ReplayFilter::default()).await;
    fixture.sql(&format!(
        "UPDATE replays SET filter = NULL, wanted = 'exhausted', event_types = 'workflow.failed', since = {NOW}"
    ));
    let filter = shown(&fixture, id).await.filter;
    assert_eq!(filter.statuses, BTreeSet::from([ReplayStatus::Exhausted]));
    let types = EventTypes::new(vec![EventType::WorkflowFailed]).unwrap();
    assert_eq!(filter.event_types, Some(types));
    assert_eq!(filter.conditions.since, Some(now()));
    fixture.sql("UPDATE replays SET wanted = 'undelivered', since = NULL");
    let filter = shown(&fixture, id).await.filter;
    assert_eq!(filter.statuses, ReplayFilter::default().statuses);
    assert_eq!(finish(&fixture.store).await.len(), 3);
}
