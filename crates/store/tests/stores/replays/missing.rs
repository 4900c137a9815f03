//! Deliveries of events that came before their subscription, or before it selected their type.

use std::time::Duration;

use hookline_core::delivery::{AttemptTask, Trigger};
use hookline_core::event_type::{EventType, EventTypes};
use hookline_core::filter::Filter;
use hookline_core::ids::{ReplayId, SubscriptionId};
use hookline_core::replay::ReplayFilter;
use hookline_core::subscription::{SubscriptionPatch, SubscriptionStatus};
use hookline_core::target::TargetRules;
use hookline_store::{
    DeliveryStatus, NewReplay, ReplayEndReason, ReplayOutcome, ReplayPace, ReplayScope,
    ReplayState, ReplayTarget,
};
use serde_json::json;
use uuid::Uuid;

use super::{KEPT, PACE, SECOND, finish, ids, later, shown, sorted, switch, turn};
use crate::fixture::{Fixture, NOW, at, event, now, on_both, organization};

on_both![
    events_before_the_subscription_are_delivered_once,
    only_missing_events_of_selected_types_are_made,
    events_beyond_the_retention_are_not_made,
    two_replays_of_missing_events_make_each_once,
    a_replay_of_missing_events_goes_on_after_a_restart,
    a_replay_of_missing_events_ends_with_its_subscription,
];

fn scope(to: SubscriptionId, filter: ReplayFilter) -> ReplayScope {
    ReplayScope {
        organization: organization("a"),
        target: ReplayTarget::Missing(to),
        filter,
    }
}

async fn counted(fixture: &Fixture, to: SubscriptionId, filter: ReplayFilter) -> ReplayOutcome {
    let counted = fixture.store.count_replay(scope(to, filter), later(), KEPT);
    counted.await.unwrap()
}

async fn start(fixture: &Fixture, to: SubscriptionId, filter: ReplayFilter) -> ReplayId {
    let id = ReplayId(Uuid::new_v4());
    let new = NewReplay {
        id,
        scope: scope(to, filter),
        expected: 1,
        max_running: 5,
    };
    let started = fixture.store.start_replay(new, later()).await.unwrap();
    assert_eq!(started, ReplayOutcome::Deliveries(1));
    id
}

async fn stored(fixture: &Fixture, names: &[&str]) {
    let events = names.iter().map(|name| event("a", name)).collect();
    fixture.intake(events).await;
}

async fn events_before_the_subscription_are_delivered_once(fixture: Fixture) {
    let earlier = fixture.subscribe("a").await.id;
    stored(&fixture, &["1", "2", "3"]).await;
    let to = fixture.subscribe("a").await.id;
    stored(&fixture, &["4"]).await;
    let all = || ReplayFilter::default();
    assert_eq!(
        counted(&fixture, earlier, all()).await,
        ReplayOutcome::Deliveries(0)
    );
    assert_eq!(
        counted(&fixture, to, all()).await,
        ReplayOutcome::Deliveries(3)
    );
    let id = start(&fixture, to, all()).await;
    let tasks = finish(&fixture.store).await;
    // The ids are those of an intake.
    assert_eq!(ids(&tasks), sorted(to, &["1", "2", "3"]));
    let expected = |task: &AttemptTask| (task.generation, task.attempt, task.subscription);
    assert!(tasks.iter().all(|task| expected(task) == (1, 1, to)));
    let replay = shown(&fixture, id).await;
    assert_eq!(
        (replay.target, replay.replayed),
        (ReplayTarget::Missing(to), 3)
    );
    let backlog = fixture.store.list_backlog(None).await.unwrap();
    assert_eq!(backlog.len(), 1);
    assert_eq!(backlog[0].subscription, to);

    // Neither another replay nor the same event makes a second delivery.
    assert_eq!(
        counted(&fixture, to, all()).await,
        ReplayOutcome::Deliveries(0)
    );
    start(&fixture, to, all()).await;
    assert_eq!(finish(&fixture.store).await, []);
    stored(&fixture, &["1", "2", "3", "4"]).await;
    let deliveries = format!(
        "SELECT count(*) FROM deliveries WHERE subscription_id = {}",
        to.0
    );
    assert_eq!(fixture.number(&deliveries), 4);

    let mut record = crate::fixture::attempted(
        tasks[0],
        to,
        &event("a", "1"),
        hookline_store::NextStep::Delivered,
    );
    let rows = fixture.store.due_deliveries(vec![tasks[0].delivery]).await;
    record.run = rows.unwrap()[&tasks[0].delivery].run;
    assert_eq!(fixture.record(vec![record]).await.len(), 1);
    let details = fixture
        .store
        .delivery(organization("a"), tasks[0].delivery, 9, None);
    let details = details.await.unwrap().unwrap();
    assert_eq!(details.attempts[0].trigger, Trigger::Replay);
    assert_eq!(details.delivery.status, DeliveryStatus::Delivered);
    // It was made, and never skipped.
    let ended = "SELECT sum(count) FROM attempt_stats WHERE subscription_id = 0";
    assert_eq!(fixture.number(ended), 1);
}

async fn select(fixture: &Fixture, id: SubscriptionId, events: &[&str]) {
    let body = json!({"events": events});
    let patch = SubscriptionPatch::from_json(body, &TargetRules::default()).unwrap();
    let changed = fixture
        .store
        .change_subscription(organization("a"), id, patch, now());
    changed.await.unwrap().unwrap();
}

async fn only_missing_events_of_selected_types_are_made(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    select(&fixture, to, &["workflow.started"]).await;
    stored(&fixture, &["1"]).await;
    let late = fixture
        .store
        .intake(&fixture.index, vec![event("a", "2")].into(), at(NOW + 9));
    late.await.unwrap();
    // A test of another subscription, and an event of another organization.
    let other = fixture.subscribe("a").await.id;
    let test = fixture.store.create_test(other, event("a", "test"), now());
    test.await.unwrap().unwrap();
    fixture.intake(vec![event("b", "3")]).await;
    let all = || ReplayFilter::default();
    let none = ReplayOutcome::Deliveries(0);
    assert_eq!(counted(&fixture, to, all()).await, none);
    select(&fixture, to, &["workflow.*"]).await;
    assert_eq!(
        counted(&fixture, to, all()).await,
        ReplayOutcome::Deliveries(2)
    );
    let started = ReplayFilter {
        event_types: EventTypes::new(vec![EventType::WorkflowStarted]).ok(),
        ..all()
    };
    assert_eq!(counted(&fixture, to, started).await, none);
    let since = ReplayFilter {
        conditions: Filter {
            since: Some(at(NOW + 9)),
            ..Filter::default()
        },
        ..all()
    };
    start(&fixture, to, since).await;
    assert_eq!(ids(&finish(&fixture.store).await), sorted(to, &["2"]));
    let until = ReplayFilter {
        conditions: Filter {
            until: Some(at(NOW + 9)),
            ..Filter::default()
        },
        ..all()
    };
    start(&fixture, to, until).await;
    assert_eq!(ids(&finish(&fixture.store).await), sorted(to, &["1"]));
}

async fn events_beyond_the_retention_are_not_made(fixture: Fixture) {
    stored(&fixture, &["1"]).await;
    let to = fixture.subscribe("a").await.id;
    let id = start(&fixture, to, ReplayFilter::default()).await;
    let kept = Duration::from_micros(1);
    let short = fixture
        .store
        .count_replay(scope(to, ReplayFilter::default()), later(), kept);
    assert_eq!(short.await.unwrap(), ReplayOutcome::Deliveries(0));
    let lease = fixture
        .store
        .lease_replay(later(), at(NOW + 9 * SECOND))
        .await;
    let pace = ReplayPace { kept, ..PACE };
    let step = fixture
        .store
        .replay_step(lease.unwrap().unwrap(), pace, later());
    assert_eq!(step.await.unwrap(), []);
    assert!(matches!(
        shown(&fixture, id).await.state,
        ReplayState::Finished { .. }
    ));
}

async fn two_replays_of_missing_events_make_each_once(fixture: Fixture) {
    let names: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stored(&fixture, &names).await;
    let to = fixture.subscribe("a").await.id;
    let first = start(&fixture, to, ReplayFilter::default()).await;
    let second = start(&fixture, to, ReplayFilter::default()).await;
    let mut dispatchers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = fixture.store.clone();
        dispatchers.spawn(async move { finish(&store).await });
    }
    let tasks = dispatchers.join_all().await.into_iter().flatten();
    let mut all: Vec<AttemptTask> = tasks.collect();
    all.extend(finish(&fixture.store).await);
    assert_eq!(ids(&all), sorted(to, &names));
    let replayed = shown(&fixture, first).await.replayed + shown(&fixture, second).await.replayed;
    assert_eq!(replayed, 30);
    assert_eq!(fixture.number("SELECT max(generation) FROM deliveries"), 1);
}

async fn a_replay_of_missing_events_goes_on_after_a_restart(fixture: Fixture) {
    stored(&fixture, &["1", "2", "3"]).await;
    let to = fixture.subscribe("a").await.id;
    start(&fixture, to, ReplayFilter::default()).await;
    let mut tasks = turn(&fixture.store, SECOND).await.unwrap();
    assert_eq!(tasks.len(), 2);
    let another = fixture.locked();
    tasks.extend(turn(&another, 2 * SECOND).await.unwrap());
    assert_eq!(ids(&tasks), sorted(to, &["1", "2", "3"]));
    assert_eq!(turn(&another, 9 * SECOND).await.unwrap(), []);
}

async fn a_replay_of_missing_events_ends_with_its_subscription(fixture: Fixture) {
    stored(&fixture, &["1"]).await;
    let to = fixture.subscribe("a").await.id;
    let id = start(&fixture, to, ReplayFilter::default()).await;
    switch(&fixture, to, SubscriptionStatus::Inactive(None)).await;
    let refused = counted(&fixture, to, ReplayFilter::default()).await;
    assert_eq!(refused, ReplayOutcome::Inactive);
    assert_eq!(finish(&fixture.store).await, []);
    let cancelled = ReplayState::Cancelled {
        at: later(),
        why: ReplayEndReason::SubscriptionInactive,
    };
    assert_eq!(shown(&fixture, id).await.state, cancelled);
    let foreign = ReplayScope {
        organization: organization("b"),
        ..scope(to, ReplayFilter::default())
    };
    let foreign = fixture.store.count_replay(foreign, later(), KEPT);
    assert_eq!(foreign.await.unwrap(), ReplayOutcome::Unknown);
}
