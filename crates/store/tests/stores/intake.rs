use std::collections::HashSet;
use std::ops::Range;

use hookline_core::subscription::{SubscriptionPatch, SubscriptionStatus};
use hookline_store::{FanoutIndex, IncomingEvent};

use crate::fixture::{Fixture, event, now, on_both, organization};

on_both![
    an_event_makes_a_delivery_for_each_subscription_that_wants_it,
    a_repeated_event_is_stored_once_and_makes_no_delivery,
    simultaneous_intakes_of_the_same_events_make_each_delivery_once,
    a_change_is_seen_by_the_next_event_in_every_replica,
    events_with_too_many_deliveries_for_a_transaction_are_refused_until_they_are_split,
    a_repeat_completes_a_partial_intake,
];

async fn an_event_makes_a_delivery_for_each_subscription_that_wants_it(fixture: Fixture) {
    fixture.subscribe("a").await;
    fixture.subscribe("a").await;
    fixture.subscribe("b").await;
    let given = fixture
        .intake(vec![event("a", "1"), event("b", "1"), event("c", "1")])
        .await;
    assert_eq!((given.new_events, given.tasks.len()), (3, 3));
    let loaded = fixture
        .store
        .due_deliveries(given.tasks.iter().map(|task| task.delivery).collect())
        .await
        .unwrap();
    assert_eq!(loaded.len(), 3);
}

async fn a_repeated_event_is_stored_once_and_makes_no_delivery(fixture: Fixture) {
    fixture.subscribe("a").await;
    let first = fixture.intake(vec![event("a", "1"), event("a", "1")]).await;
    assert_eq!((first.new_events, first.tasks.len()), (1, 1));
    let repeat = fixture.intake(vec![event("a", "1")]).await;
    assert_eq!((repeat.new_events, repeat.tasks.len()), (0, 0));
    let due = fixture.store.count_due(now(), 10).await.unwrap();
    assert_eq!(due, 1, "a due delivery is a row from the first time on");
    let with_a_new_one = fixture.intake(vec![event("a", "1"), event("a", "2")]).await;
    assert_eq!(
        (with_a_new_one.new_events, with_a_new_one.tasks.len()),
        (1, 1)
    );
    let stored = fixture.store.stored_bytes(organization("a")).await.unwrap();
    let bytes = |id| event("a", id).event.body.len();
    assert_eq!(stored, (bytes("1") + bytes("2")) as u64);
}

async fn simultaneous_intakes_of_the_same_events_make_each_delivery_once(fixture: Fixture) {
    fixture.subscribe("a").await;
    // Many, of which the replicas know nothing, and a few after that.
    let indexes: Vec<FanoutIndex> = (0..6).map(|_| FanoutIndex::default()).collect();
    for (from, count) in [(0, 200), (200, 20), (220, 20)] {
        replicas_take(&fixture, &indexes, from..from + count).await;
    }
}

async fn replicas_take(fixture: &Fixture, indexes: &[FanoutIndex], numbers: Range<usize>) {
    let count = numbers.len();
    let ids: Vec<String> = numbers.map(|id| id.to_string()).collect();
    let mut replicas = tokio::task::JoinSet::new();
    for (replica, index) in indexes.iter().enumerate() {
        // Each in another order, so that locks taken as they come would make a circle.
        let mut events: Vec<IncomingEvent> = ids.iter().map(|id| event("a", id)).collect();
        events.rotate_left(replica * 31 % count);
        if replica % 2 == 0 {
            events.reverse();
        }
        let (store, index) = (fixture.store.clone(), index.clone());
        replicas.spawn(async move { store.intake(&index, events.into(), now()).await });
    }
    let given: Vec<_> = replicas
        .join_all()
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        given.iter().map(|given| given.new_events).sum::<usize>(),
        count
    );
    let tasks: Vec<_> = given.iter().flat_map(|given| &given.tasks).collect();
    let distinct: HashSet<_> = tasks.iter().map(|task| task.delivery).collect();
    assert_eq!((tasks.len(), distinct.len()), (count, count));
}

async fn a_change_is_seen_by_the_next_event_in_every_replica(fixture: Fixture) {
    let subscription = fixture.subscribe("a").await;
    let replicas = [FanoutIndex::default(), FanoutIndex::default()];
    let mut number = 0;
    for status in [
        SubscriptionStatus::Active,
        SubscriptionStatus::Inactive(None),
        SubscriptionStatus::Active,
    ] {
        let patch = SubscriptionPatch {
            status: Some(status),
            ..Default::default()
        };
        fixture
            .store
            .change_subscription(organization("a"), subscription.id, patch, now())
            .await
            .unwrap();
        for index in &replicas {
            number += 1;
            let events = vec![event("a", &number.to_string())];
            let given = fixture
                .store
                .intake(index, events.into(), now())
                .await
                .unwrap();
            assert_eq!(
                given.tasks.len(),
                usize::from(status == SubscriptionStatus::Active),
                "{status:?}"
            );
        }
    }
    assert!(
        fixture
            .store
            .delete_subscription(organization("a"), subscription.id, now())
            .await
            .unwrap()
    );
    for index in &replicas {
        number += 1;
        let events = vec![event("a", &number.to_string())];
        assert!(
            fixture
                .store
                .intake(index, events.into(), now())
                .await
                .unwrap()
                .tasks
                .is_empty()
        );
    }
}

async fn events_with_too_many_deliveries_for_a_transaction_are_refused_until_they_are_split(
    fixture: Fixture,
) {
    for _ in 0..3 {
        fixture.subscribe("a").await;
    }
    let owner = organization("a");
    // An index that knows nothing is brought up to date even where nothing is taken in.
    let index = FanoutIndex::default();
    let at_most = async |ids: &[&str], most| {
        let events: Vec<IncomingEvent> = ids.iter().map(|id| event("a", id)).collect();
        let given = fixture
            .store
            .intake_at_most(&index, events.into(), most, now());
        given.await.unwrap()
    };
    let wanted = event("a", "1").event.event_type;
    assert_eq!(index.deliveries_of(&owner, wanted), 0);
    assert_eq!(at_most(&["1", "2", "3"], 6).await, None);
    assert_eq!(index.deliveries_of(&owner, wanted), 3);
    assert_eq!(fixture.store.stored_bytes(owner).await.unwrap(), 0);
    let given = at_most(&["1", "2"], 6).await.unwrap();
    assert_eq!((given.new_events, given.tasks.len()), (2, 6));
    // Known by now, so the shortest way would do.
    assert_eq!(at_most(&["3", "4"], 5).await, None);
    // A single event is the smallest unit.
    let given = at_most(&["3"], 2).await.unwrap();
    assert_eq!((given.new_events, given.tasks.len()), (1, 3));
}

async fn a_repeat_completes_a_partial_intake(fixture: Fixture) {
    for _ in 0..3 {
        fixture.subscribe("a").await;
    }
    let ids = ["1", "2", "3", "4"];
    let first = ids[..2].iter().map(|id| event("a", id)).collect();
    let first = fixture.intake(first).await;
    assert_eq!((first.new_events, first.tasks.len()), (2, 6));
    // The process ended before the message was acked, so it comes again.
    let repeat = ids.iter().map(|id| event("a", id)).collect();
    let repeat = fixture.intake(repeat).await;
    assert_eq!((repeat.new_events, repeat.tasks.len()), (2, 6));
    let tasks = first.tasks.iter().chain(&repeat.tasks);
    let deliveries: HashSet<_> = tasks.map(|task| task.delivery).collect();
    assert_eq!(deliveries.len(), 12);
    let taken: usize = repeat.new_events + first.new_events;
    assert_eq!(taken, ids.len());
}
