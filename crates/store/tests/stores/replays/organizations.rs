//! Replays of a whole organization, and the list of replays.

use hookline_core::delivery::AttemptTask;
use hookline_core::event_type::{EventType, EventTypes};
use hookline_core::filter::Filter;
use hookline_core::ids::{DeliveryId, EventId, ReplayId, SubscriptionId, WorkflowId};
use hookline_core::replay::{ReplayFilter, ReplayStatus};
use hookline_core::subscription::SubscriptionStatus;
use hookline_store::{
    NewReplay, PageStart, Replay, ReplayOutcome, ReplayQuery, ReplayScope, ReplayState,
    ReplayTarget, ResultPage,
};
use uuid::Uuid;

use super::{KEPT, SECOND, delivery, finish, ids, later, shown, switch, turn};
use crate::fixture::{Fixture, NOW, at, event, now, on_both, organization};

on_both![
    every_active_subscription_of_the_organization_is_replayed,
    deliveries_of_an_organization_restart_oldest_first,
    a_replay_of_an_organization_is_narrowed,
    deliveries_without_a_type_are_replayed,
    replays_are_listed_newest_first,
];

fn scope(filter: ReplayFilter) -> ReplayScope {
    ReplayScope {
        organization: organization("a"),
        target: ReplayTarget::Organization,
        filter,
    }
}

async fn counted(fixture: &Fixture, filter: ReplayFilter) -> u64 {
    let counted = fixture.store.count_replay(scope(filter), later(), KEPT);
    let ReplayOutcome::Deliveries(count) = counted.await.unwrap() else {
        panic!("refused")
    };
    count
}

async fn start(fixture: &Fixture, filter: ReplayFilter) -> ReplayId {
    let id = ReplayId(Uuid::new_v4());
    let new = NewReplay {
        id,
        scope: scope(filter),
        expected: 1,
        max_running: 5,
    };
    let started = fixture.store.start_replay(new, later()).await.unwrap();
    assert_eq!(started, ReplayOutcome::Deliveries(1));
    id
}

/// Deliveries of an event that was missed by all of these subscriptions.
async fn missed(fixture: &Fixture, to: &[SubscriptionId], events: &[(&str, i64)]) {
    for id in to {
        switch(fixture, *id, SubscriptionStatus::Inactive(None)).await;
    }
    for (id, when) in events {
        let stored =
            fixture
                .store
                .intake(&fixture.index, vec![event("a", id)].into(), at(NOW + when));
        stored.await.unwrap();
    }
    for id in to {
        switch(fixture, *id, SubscriptionStatus::Active).await;
    }
}

fn all_of(to: &[SubscriptionId], names: &[&str]) -> Vec<DeliveryId> {
    let each = to
        .iter()
        .flat_map(|id| names.iter().map(|name| delivery(*id, name)));
    let mut all: Vec<_> = each.collect();
    all.sort_unstable();
    all
}

async fn every_active_subscription_of_the_organization_is_replayed(fixture: Fixture) {
    let one = fixture.subscribe("a").await.id;
    let two = fixture.subscribe("a").await.id;
    let off = fixture.subscribe("a").await.id;
    let deleted = fixture.subscribe("a").await.id;
    fixture.subscribe("b").await;
    // Their activations differ.
    switch(&fixture, one, SubscriptionStatus::Inactive(None)).await;
    switch(&fixture, one, SubscriptionStatus::Active).await;
    missed(&fixture, &[one, two, off, deleted], &[("1", 0), ("2", 1)]).await;
    fixture.intake(vec![event("b", "1")]).await;
    switch(&fixture, off, SubscriptionStatus::Inactive(None)).await;
    let gone = fixture
        .store
        .delete_subscription(organization("a"), deleted, now());
    assert!(gone.await.unwrap());

    assert_eq!(counted(&fixture, ReplayFilter::default()).await, 4);
    let id = start(&fixture, ReplayFilter::default()).await;
    let tasks = finish(&fixture.store).await;
    assert_eq!(ids(&tasks), all_of(&[one, two], &["1", "2"]));
    let replay = shown(&fixture, id).await;
    assert_eq!(replay.target, ReplayTarget::Organization);
    assert_eq!(replay.replayed, 4);
    assert!(matches!(replay.state, ReplayState::Finished { .. }));
    // Each restarted in the activation of its subscription, so nothing is void.
    let all: Vec<DeliveryId> = tasks.iter().map(|task| task.delivery).collect();
    let rows = fixture.store.due_deliveries(all).await.unwrap();
    let active = hookline_store::Eligibility::Active;
    assert!(rows.values().all(|row| row.eligibility == active));
    assert_eq!(counted(&fixture, ReplayFilter::default()).await, 0);
}

async fn deliveries_of_an_organization_restart_oldest_first(fixture: Fixture) {
    let one = fixture.subscribe("a").await.id;
    let two = fixture.subscribe("a").await.id;
    let events = [("3", 3), ("1", 1), ("2", 2)];
    missed(&fixture, &[one, two], &events).await;
    start(&fixture, ReplayFilter::default()).await;
    // Two at a time.
    for (number, name) in ["1", "2", "3"].into_iter().enumerate() {
        let when = SECOND * (1 + i64::try_from(number).unwrap());
        let tasks = turn(&fixture.store, when).await.unwrap();
        assert_eq!(ids(&tasks), all_of(&[one, two], &[name]));
    }
    assert_eq!(turn(&fixture.store, 9 * SECOND).await.unwrap(), []);
    assert_eq!(turn(&fixture.store, 9 * SECOND).await, None);
}

async fn a_replay_of_an_organization_is_narrowed(fixture: Fixture) {
    let one = fixture.subscribe("a").await.id;
    let two = fixture.subscribe("a").await.id;
    missed(&fixture, &[one, two], &[("1", 0), ("2", 0)]).await;
    let under = |conditions| ReplayFilter {
        conditions,
        ..Default::default()
    };
    let none = Filter::default;
    let types = |one| ReplayFilter {
        event_types: EventTypes::new(vec![one]).ok(),
        ..Default::default()
    };
    let status = |one| ReplayFilter {
        statuses: [one].into(),
        ..Default::default()
    };
    let of_event = under(Filter {
        event: EventId::parse("2").ok(),
        ..none()
    });
    let of_workflow = under(Filter {
        workflow: WorkflowId::parse("w").ok(),
        ..none()
    });
    let until = under(Filter {
        until: Some(now()),
        ..none()
    });
    for (filter, expected) in [
        (of_event.clone(), 2),
        (of_workflow, 4),
        (until, 0),
        (types(EventType::WorkflowFailed), 4),
        (types(EventType::WorkflowStarted), 0),
        (status(ReplayStatus::Exhausted), 0),
        (status(ReplayStatus::Pending), 0),
        (status(ReplayStatus::Skipped), 4),
    ] {
        assert_eq!(
            counted(&fixture, filter.clone()).await,
            expected,
            "{filter:?}"
        );
    }
    start(&fixture, of_event).await;
    let tasks: Vec<AttemptTask> = finish(&fixture.store).await;
    assert_eq!(ids(&tasks), all_of(&[one, two], &["2"]));
}

async fn deliveries_without_a_type_are_replayed(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    missed(&fixture, &[to], &[("1", 0)]).await;
    // As a service of the version before wrote them.
    fixture.sql("UPDATE deliveries SET event_type = ''");
    let types = |one| ReplayFilter {
        event_types: EventTypes::new(vec![one]).ok(),
        ..Default::default()
    };
    assert_eq!(
        counted(&fixture, types(EventType::WorkflowStarted)).await,
        0
    );
    assert_eq!(counted(&fixture, types(EventType::WorkflowFailed)).await, 1);
    start(&fixture, types(EventType::WorkflowFailed)).await;
    assert_eq!(ids(&finish(&fixture.store).await), all_of(&[to], &["1"]));
}

async fn replays_are_listed_newest_first(fixture: Fixture) {
    let one = fixture.subscribe("a").await.id;
    let two = fixture.subscribe("a").await.id;
    let mut made = Vec::new();
    for (number, target) in [
        ReplayTarget::Organization,
        ReplayTarget::Subscription(one),
        ReplayTarget::Missing(two),
        ReplayTarget::Missing(one),
    ]
    .into_iter()
    .enumerate()
    {
        let id = ReplayId(Uuid::new_v4());
        let new = NewReplay {
            id,
            scope: ReplayScope {
                target,
                ..scope(ReplayFilter::default())
            },
            expected: 0,
            max_running: 5,
        };
        // The last two are of the same time.
        let when = at(NOW + i64::try_from(number.min(2)).unwrap());
        fixture.store.start_replay(new, when).await.unwrap();
        made.push((when, id.0, target));
    }
    made.sort_unstable_by_key(|(when, id, _)| std::cmp::Reverse((*when, *id)));
    let page = async |owner: &str, subscription, limit, start| {
        let query = ReplayQuery {
            organization: organization(owner),
            subscription,
            limit,
            start,
        };
        fixture.store.replays(query).await.unwrap()
    };
    let targets = |page: ResultPage<Replay, Option<u64>>| -> Vec<ReplayTarget> {
        page.rows.into_iter().map(|replay| replay.target).collect()
    };
    let expected: Vec<ReplayTarget> = made.iter().map(|(_, _, target)| *target).collect();
    let first = page("a", None, 3, PageStart::Offset(0)).await;
    assert_eq!(first.total, Some(4));
    let cursor = first.rows[2].cursor();
    assert_eq!(targets(first), expected[..3]);
    let rest = page("a", None, 3, PageStart::Cursor(cursor)).await;
    assert_eq!(targets(rest), expected[3..]);
    let skipped = page("a", None, 3, PageStart::Offset(2)).await;
    assert_eq!(targets(skipped), expected[2..]);
    let of_one = page("a", Some(one), 3, PageStart::Offset(0)).await;
    assert_eq!(of_one.total, Some(2));
    assert_eq!(
        targets(of_one),
        [ReplayTarget::Missing(one), ReplayTarget::Subscription(one)]
    );
    let foreign = page("b", Some(one), 3, PageStart::Offset(0)).await;
    assert_eq!(foreign, ResultPage::empty(Some(0)));
}
