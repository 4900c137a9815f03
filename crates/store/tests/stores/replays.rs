//! Replays: the right deliveries, each once, with several dispatchers and after a death.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hookline_core::delivery::{AttemptTask, DeliveryState, ExhaustedReason};
use hookline_core::event_type::{EventType, EventTypes};
use hookline_core::filter::Filter;
use hookline_core::ids::{DeliveryId, EventId, ReplayId, SubscriptionId};
use hookline_core::replay::{ReplayFilter, ReplayStatus};
use hookline_core::subscription::{SubscriptionPatch, SubscriptionStatus};
use hookline_core::timestamp::Timestamp;
use hookline_store::{
    BacklogClass, BacklogRead, NewReplay, NextStep, Replay, ReplayEndReason, ReplayOutcome,
    ReplayPace, ReplayScope, ReplayState, ReplayTarget, Store,
};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, at, attempted, event, now, on_both, organization};

mod filters;
mod missing;
mod organizations;

on_both![
    a_replay_restarts_only_undelivered_deliveries,
    a_replay_is_narrowed_by_time_type_and_status,
    dispatchers_side_by_side_replay_each_delivery_once,
    a_turn_that_passed_is_taken_over_and_starts_nothing_any_more,
    a_replay_keeps_its_rate,
    deliveries_restarted_by_a_step_are_backlog_that_is_due_at_once,
    a_cancelled_replay_starts_no_more,
    a_replay_ends_when_its_subscription_does,
    an_organization_has_so_many_running_and_no_more,
    an_ended_replay_is_forgotten_with_the_retention,
    a_delivery_that_a_replay_restarts_is_no_longer_dead,
];

pub(super) const SECOND: i64 = 1_000_000;

/// When replays are made: after every delivery.
pub(super) fn later() -> Timestamp {
    at(NOW + SECOND)
}

pub(super) fn scope(to: SubscriptionId, filter: ReplayFilter) -> ReplayScope {
    ReplayScope {
        organization: organization("a"),
        target: ReplayTarget::Subscription(to),
        filter,
    }
}

pub(super) async fn count(
    fixture: &Fixture,
    to: SubscriptionId,
    filter: ReplayFilter,
) -> ReplayOutcome {
    let counted = fixture.store.count_replay(scope(to, filter), later(), KEPT);
    counted.await.unwrap()
}

pub(super) async fn start(fixture: &Fixture, to: SubscriptionId, filter: ReplayFilter) -> ReplayId {
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

pub(super) async fn shown(fixture: &Fixture, id: ReplayId) -> Replay {
    let found = fixture.store.replay(organization("a"), id).await.unwrap();
    found.unwrap()
}

/// A turn starts two deliveries at this rate, and the next one comes a quarter of a second later.
pub(super) const PACE: ReplayPace = ReplayPace {
    per_second: 8,
    kept: KEPT,
};

/// The retention.
pub(super) const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Takes one turn at `when`.
pub(super) async fn turn(store: &Store, when: i64) -> Option<Vec<AttemptTask>> {
    let (when, until) = (at(NOW + when), at(NOW + when + 5 * SECOND));
    let turn = store.lease_replay(when, until).await.unwrap()?;
    Some(store.replay_step(turn, PACE, when).await.unwrap())
}

/// Takes turns until no replay is running. Each counts as made at once.
pub(super) async fn finish(store: &Store) -> Vec<AttemptTask> {
    let mut all = Vec::new();
    let far = at(NOW + 60 * SECOND);
    while let Some(turn) = store.lease_replay(far, far).await.unwrap() {
        all.extend(store.replay_step(turn, PACE, later()).await.unwrap());
    }
    all
}

pub(super) fn ids(tasks: &[AttemptTask]) -> Vec<DeliveryId> {
    let mut ids: Vec<_> = tasks.iter().map(|task| task.delivery).collect();
    ids.sort_unstable();
    ids
}

pub(super) fn delivery(to: SubscriptionId, id: &str) -> DeliveryId {
    DeliveryId::of(&organization("a"), &EventId::parse(id).unwrap(), to)
}

pub(super) fn sorted(to: SubscriptionId, names: &[&str]) -> Vec<DeliveryId> {
    let mut ids: Vec<_> = names.iter().map(|name| delivery(to, name)).collect();
    ids.sort_unstable();
    ids
}

pub(super) async fn switch(fixture: &Fixture, id: SubscriptionId, status: SubscriptionStatus) {
    let patch = SubscriptionPatch {
        status: Some(status),
        ..Default::default()
    };
    let changed = fixture
        .store
        .change_subscription(organization("a"), id, patch, now());
    changed.await.unwrap().unwrap();
}

pub(super) async fn ended(fixture: &Fixture, to: SubscriptionId, id: &str, next_step: NextStep) {
    let task = fixture.task("a", id).await;
    let record = attempted(task, to, &event("a", id), next_step);
    assert_eq!(fixture.record(vec![record]).await.len(), 1);
}

pub(super) async fn exhausted(fixture: &Fixture, to: SubscriptionId, names: &[&str]) {
    for name in names {
        ended(
            fixture,
            to,
            name,
            NextStep::Exhausted(ExhaustedReason::OutOfAttempts),
        )
        .await;
    }
}

async fn a_replay_restarts_only_undelivered_deliveries(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    exhausted(&fixture, to, &["exhausted"]).await;
    ended(&fixture, to, "delivered", NextStep::Delivered).await;
    // Void: it was pending when the subscription was switched off, and missed one while it was.
    fixture.task("a", "void").await;
    switch(&fixture, to, SubscriptionStatus::Inactive(None)).await;
    fixture.intake(vec![event("a", "missed")]).await;
    let refused = count(&fixture, to, ReplayFilter::default()).await;
    assert_eq!(refused, ReplayOutcome::Inactive);
    switch(&fixture, to, SubscriptionStatus::Active).await;
    fixture.task("a", "pending").await;
    let test = fixture.store.create_test(to, event("a", "test"), now());
    let test = test.await.unwrap().unwrap();
    let exhausts = NextStep::Exhausted(ExhaustedReason::OutOfAttempts);
    let mut record = attempted(test, to, &event("a", "test"), exhausts);
    record.kind = hookline_core::delivery::DeliveryKind::Test;
    fixture.record(vec![record]).await;

    let counted = count(&fixture, to, ReplayFilter::default()).await;
    assert_eq!(counted, ReplayOutcome::Deliveries(3));
    let id = start(&fixture, to, ReplayFilter::default()).await;
    assert_eq!(shown(&fixture, id).await.state, ReplayState::Running);
    // The replay ignores events that arrive after its creation.
    let after = fixture
        .store
        .intake(&fixture.index, vec![event("a", "after")].into(), later());
    after.await.unwrap();

    let tasks = finish(&fixture.store).await;
    assert_eq!(ids(&tasks), sorted(to, &["exhausted", "void", "missed"]));
    let generations: Vec<_> = tasks.iter().map(|one| one.generation).collect();
    assert_eq!(generations, [1, 1, 1]);
    let replay = shown(&fixture, id).await;
    assert_eq!(replay.replayed, 3);
    assert_eq!(replay.state, ReplayState::Finished { at: later() });
    let counted = count(&fixture, to, ReplayFilter::default()).await;
    assert_eq!(counted, ReplayOutcome::Deliveries(0));
}

async fn a_replay_is_narrowed_by_time_type_and_status(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    exhausted(&fixture, to, &["1", "2"]).await;
    ended(&fixture, to, "3", NextStep::Delivered).await;
    let only = |status| ReplayFilter {
        statuses: BTreeSet::from([status]),
        ..Default::default()
    };
    let of_type = |event_type| ReplayFilter {
        event_types: Some(EventTypes::new(vec![event_type]).unwrap()),
        ..Default::default()
    };
    let span = |since, until| ReplayFilter {
        conditions: Filter {
            since,
            until,
            ..Filter::default()
        },
        ..Default::default()
    };
    let before = Some(at(NOW - 1));
    for (filter, expected) in [
        (only(ReplayStatus::Skipped), vec![]),
        (of_type(EventType::WorkflowStarted), vec![]),
        (span(None, Some(now())), vec![]),
        (span(before, Some(now())), vec![]),
        (span(Some(at(NOW + 1)), None), vec![]),
        (only(ReplayStatus::Delivered), vec!["3"]),
        (span(Some(now()), Some(at(NOW + 1))), vec!["1", "2"]),
    ] {
        let counted = count(&fixture, to, filter.clone()).await;
        assert_eq!(
            counted,
            ReplayOutcome::Deliveries(expected.len() as u64),
            "{filter:?}"
        );
        let id = start(&fixture, to, filter.clone()).await;
        let tasks = finish(&fixture.store).await;
        assert_eq!(ids(&tasks), sorted(to, &expected), "{filter:?}");
        assert_eq!(shown(&fixture, id).await.filter, filter);
    }
    // The last two are pending now, so no other replay restarts them.
    let failed = of_type(EventType::WorkflowFailed);
    assert_eq!(
        count(&fixture, to, failed).await,
        ReplayOutcome::Deliveries(0)
    );
}

async fn dispatchers_side_by_side_replay_each_delivery_once(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let names: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    exhausted(&fixture, to, &names).await;
    let first = start(&fixture, to, ReplayFilter::default()).await;
    let second = start(&fixture, to, ReplayFilter::default()).await;
    let mut dispatchers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = fixture.store.clone();
        dispatchers.spawn(async move { finish(&store).await });
    }
    let tasks: Vec<AttemptTask> = dispatchers.join_all().await.into_iter().flatten().collect();
    // A dispatcher ends when it finds no turn that is due; another may have had the last one.
    let mut times: BTreeMap<DeliveryId, usize> = BTreeMap::new();
    for one in tasks.into_iter().chain(finish(&fixture.store).await) {
        *times.entry(one.delivery).or_default() += 1;
    }
    assert_eq!(times.len(), names.len());
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    let replayed = shown(&fixture, first).await.replayed + shown(&fixture, second).await.replayed;
    assert_eq!(replayed, names.len() as u64);
}

async fn a_turn_that_passed_is_taken_over_and_starts_nothing_any_more(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    exhausted(&fixture, to, &["1", "2", "3"]).await;
    let id = start(&fixture, to, ReplayFilter::default()).await;
    let store = &fixture.store;
    let frozen = store.lease_replay(later(), at(NOW + 6 * SECOND)).await;
    let frozen = frozen.unwrap().unwrap();
    assert_eq!(turn(store, 5 * SECOND).await, None, "a turn has one taker");
    let started = turn(store, 6 * SECOND).await.unwrap();
    assert_eq!(started.len(), 2);

    let late = at(NOW + 7 * SECOND);
    let nothing = store.replay_step(frozen, PACE, late).await.unwrap();
    assert_eq!(nothing, []);
    assert_eq!(shown(&fixture, id).await.replayed, 2);
    assert_eq!(turn(store, 7 * SECOND).await.unwrap().len(), 1);
    assert_eq!(shown(&fixture, id).await.replayed, 3);
}

async fn a_replay_keeps_its_rate(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    exhausted(&fixture, to, &["1", "2", "3"]).await;
    start(&fixture, to, ReplayFilter::default()).await;
    let store = &fixture.store;
    assert_eq!(turn(store, SECOND).await.unwrap().len(), 2);
    assert_eq!(turn(store, SECOND * 5 / 4 - 1).await, None);
    assert_eq!(turn(store, SECOND * 5 / 4).await.unwrap().len(), 1);
    assert_eq!(turn(store, SECOND * 11 / 8 - 1).await, None);
    assert_eq!(turn(store, SECOND * 11 / 8).await.unwrap(), []);
    assert_eq!(turn(store, 99 * SECOND).await, None, "it has ended");
}

async fn deliveries_restarted_by_a_step_are_backlog_that_is_due_at_once(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    exhausted(&fixture, to, &["1"]).await;
    start(&fixture, to, ReplayFilter::default()).await;
    let store = &fixture.store;
    assert_eq!(store.count_due(later(), 10).await.unwrap(), 0);
    let started = turn(store, SECOND).await.unwrap();
    let read = BacklogRead {
        partition: store.partitions().await.unwrap().of(to),
        subscription: to,
        class: BacklogClass::Replay,
        after: None,
        limit: 10,
    };
    let found = store.read_backlog(vec![read], later()).await.unwrap();
    let due: Vec<AttemptTask> = found.iter().map(|due| due.task).collect();
    assert_eq!(due, started);
    assert_eq!(due.len(), 1);
}

async fn a_cancelled_replay_starts_no_more(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    exhausted(&fixture, to, &["1", "2", "3"]).await;
    let id = start(&fixture, to, ReplayFilter::default()).await;
    let store = &fixture.store;
    turn(store, SECOND).await.unwrap();
    let taken = store
        .lease_replay(at(NOW + 2 * SECOND), at(NOW + 9 * SECOND))
        .await;
    let taken = taken.unwrap().unwrap();
    let cancel = async |owner| {
        store
            .cancel_replay(organization(owner), id, at(NOW + 9))
            .await
    };
    assert!(!cancel("b").await.unwrap());
    assert!(cancel("a").await.unwrap());
    let why = ReplayEndReason::Requested;
    let cancelled = ReplayState::Cancelled {
        at: at(NOW + 9),
        why,
    };
    assert_eq!(shown(&fixture, id).await.state, cancelled);
    let late = at(NOW + 3 * SECOND);
    let nothing = store.replay_step(taken, PACE, late).await.unwrap();
    assert_eq!(nothing, []);
    assert_eq!(turn(store, 99 * SECOND).await, None);
    assert_eq!(shown(&fixture, id).await.replayed, 2);
    assert!(cancel("a").await.unwrap());
    assert_eq!(shown(&fixture, id).await.state, cancelled);
}

async fn a_replay_ends_when_its_subscription_does(fixture: Fixture) {
    for (index, why) in [
        ReplayEndReason::SubscriptionInactive,
        ReplayEndReason::SubscriptionDeleted,
    ]
    .into_iter()
    .enumerate()
    {
        let to = fixture.subscribe("a").await.id;
        let name = index.to_string();
        exhausted(&fixture, to, &[&name]).await;
        let id = start(&fixture, to, ReplayFilter::default()).await;
        match why {
            ReplayEndReason::SubscriptionDeleted => {
                let deleted = fixture
                    .store
                    .delete_subscription(organization("a"), to, now());
                assert!(deleted.await.unwrap());
                let unknown = count(&fixture, to, ReplayFilter::default()).await;
                assert_eq!(unknown, ReplayOutcome::Unknown);
            }
            _ => switch(&fixture, to, SubscriptionStatus::Inactive(None)).await,
        }
        assert_eq!(finish(&fixture.store).await, []);
        let at = later();
        let state = shown(&fixture, id).await.state;
        assert_eq!(state, ReplayState::Cancelled { at, why });
        let left = fixture
            .store
            .due_deliveries(vec![delivery(to, &name)])
            .await
            .unwrap();
        let state = left[&delivery(to, &name)].state;
        assert!(
            matches!(state, DeliveryState::Exhausted { .. }),
            "{state:?}"
        );
    }
}

async fn an_organization_has_so_many_running_and_no_more(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let start = async || {
        let new = NewReplay {
            id: ReplayId(Uuid::new_v4()),
            scope: scope(to, ReplayFilter::default()),
            expected: 0,
            max_running: 2,
        };
        fixture.store.start_replay(new, later()).await.unwrap()
    };
    let (a, b, c, d) = tokio::join!(start(), start(), start(), start());
    let answers = [a, b, c, d];
    let started = answers
        .iter()
        .filter(|answer| **answer == ReplayOutcome::Deliveries(0));
    assert_eq!(started.count(), 2, "{answers:?}");
    assert!(answers.contains(&ReplayOutcome::TooMany));
    finish(&fixture.store).await;
    assert_eq!(start().await, ReplayOutcome::Deliveries(0));
}

async fn an_ended_replay_is_forgotten_with_the_retention(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let ended = start(&fixture, to, ReplayFilter::default()).await;
    finish(&fixture.store).await;
    let running = start(&fixture, to, ReplayFilter::default()).await;
    let known = async |id| fixture.store.replay(organization("a"), id).await.unwrap();
    fixture.store.forget_replays(later()).await.unwrap();
    assert!(known(ended).await.is_some());
    fixture
        .store
        .forget_replays(at(NOW + 2 * SECOND))
        .await
        .unwrap();
    assert!(known(ended).await.is_none());
    assert!(known(running).await.is_some());
}

async fn a_delivery_that_a_replay_restarts_is_no_longer_dead(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    for id in ["1", "2", "3"] {
        let task = fixture.task("a", id).await;
        let put = fixture
            .store
            .dead_letter_delivery(task, "bad".to_owned(), now());
        put.await.unwrap();
    }
    assert_eq!(fixture.store.count_dead_deliveries().await.unwrap(), 3);
    start(&fixture, to, ReplayFilter::default()).await;
    assert_eq!(finish(&fixture.store).await.len(), 3);
    assert_eq!(fixture.store.count_dead_deliveries().await.unwrap(), 0);
}
