//! Dead deliveries: listed with their reason while they are exhausted as `poison`.

use hookline_core::delivery::{AttemptTask, DeliveryState, ExhaustedReason, StartedBy};
use hookline_core::timestamp::Timestamp;
use hookline_store::{DeadDelivery, NextStep, RestartResult};

use crate::fixture::{DAY, Fixture, NOW, at, attempted, event, now, on_both};

on_both![
    a_dead_delivery_is_exhausted_and_listed_until_it_is_dropped,
    dead_deliveries_are_paged_oldest_first,
    a_delivery_that_moved_on_is_no_dead_letter,
    a_delivery_that_is_started_again_is_no_longer_a_dead_letter,
    a_delivery_that_retention_deletes_is_no_longer_dead,
];

async fn dead_letter(fixture: &Fixture, task: AttemptTask, when: Timestamp) {
    let put = fixture
        .store
        .dead_letter_delivery(task, "bad".to_owned(), when);
    put.await.unwrap();
}

async fn state(fixture: &Fixture, task: AttemptTask) -> DeliveryState {
    let id = task.delivery;
    fixture.store.due_deliveries(vec![id]).await.unwrap()[&id].state
}

fn poison(at: Timestamp) -> DeliveryState {
    DeliveryState::Exhausted {
        at,
        reason: ExhaustedReason::Poison,
    }
}

async fn listed(fixture: &Fixture) -> Vec<DeadDelivery> {
    fixture.store.dead_deliveries(None, 100).await.unwrap()
}

async fn a_dead_delivery_is_exhausted_and_listed_until_it_is_dropped(fixture: Fixture) {
    let store = &fixture.store;
    fixture.subscribe("a").await;
    let task = fixture.task("a", "1").await;
    let reason = format!("a NUL \0 and too much{}", "é".repeat(4096));
    store
        .dead_letter_delivery(task, reason, now())
        .await
        .unwrap();
    // A repeat, as after a commit without an answer, changes nothing.
    dead_letter(&fixture, task, at(NOW + 1)).await;

    assert_eq!(state(&fixture, task).await, poison(now()));
    assert_eq!(store.count_dead_deliveries().await.unwrap(), 1);
    let found = store
        .find_dead_delivery(task.delivery)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.delivery, found.since), (task.delivery, now()));
    assert!(found.reason.starts_with("a NUL \u{fffd} and too muché"));
    assert!((4_000..4_100).contains(&found.reason.len()));
    assert_eq!(listed(&fixture).await, [found]);

    assert!(store.drop_dead_delivery(task.delivery).await.unwrap());
    assert!(!store.drop_dead_delivery(task.delivery).await.unwrap());
    assert_eq!(listed(&fixture).await, []);
    assert_eq!(store.find_dead_delivery(task.delivery).await.unwrap(), None);
    assert_eq!(store.count_dead_deliveries().await.unwrap(), 0);
    assert_eq!(state(&fixture, task).await, poison(now()));
}

async fn dead_deliveries_are_paged_oldest_first(fixture: Fixture) {
    fixture.subscribe("a").await;
    let mut expected = Vec::new();
    for (id, when) in [("1", 2), ("2", 1), ("3", 2), ("4", 2), ("5", 0)] {
        let task = fixture.task("a", id).await;
        dead_letter(&fixture, task, at(NOW + when)).await;
        expected.push((at(NOW + when), task.delivery));
    }
    expected.sort_unstable();
    let mut seen = Vec::new();
    loop {
        let after = seen.last().copied();
        let page = fixture.store.dead_deliveries(after, 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|one| (one.since, one.delivery)));
    }
    assert_eq!(seen, expected);
}

async fn a_delivery_that_moved_on_is_no_dead_letter(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let delivered = fixture.task("a", "1").await;
    let record = attempted(delivered, to, &event("a", "1"), NextStep::Delivered);
    fixture.record(vec![record]).await;
    let before = state(&fixture, delivered).await;
    dead_letter(&fixture, delivered, at(NOW + 9)).await;
    assert_eq!(state(&fixture, delivered).await, before);

    // It was started again: what an earlier run is at fault for is no longer of interest.
    let again = fixture
        .store
        .restart(None, delivered.delivery, StartedBy::Retry, now());
    assert!(matches!(again.await.unwrap(), RestartResult::Started(_)));
    dead_letter(&fixture, delivered, at(NOW + 9)).await;
    let pending = DeliveryState::Pending { due: now() };
    assert_eq!(state(&fixture, delivered).await, pending);
    assert_eq!(listed(&fixture).await, []);
}

async fn a_delivery_that_is_started_again_is_no_longer_a_dead_letter(fixture: Fixture) {
    fixture.subscribe("a").await;
    let [task, other] = [fixture.task("a", "1").await, fixture.task("a", "2").await];
    dead_letter(&fixture, task, now()).await;
    dead_letter(&fixture, other, now()).await;
    let again = fixture
        .store
        .restart(None, task.delivery, StartedBy::Retry, now());
    let RestartResult::Started(second) = again.await.unwrap() else {
        panic!("not started")
    };
    let left: Vec<_> = listed(&fixture).await;
    assert_eq!((left.len(), left[0].delivery), (1, other.delivery));
    // It may become a dead letter once more.
    dead_letter(&fixture, second, at(NOW + 1)).await;
    assert_eq!(listed(&fixture).await.len(), 2);
}

async fn a_delivery_that_retention_deletes_is_no_longer_dead(fixture: Fixture) {
    fixture.subscribe("a").await;
    let store = &fixture.store;
    let long_ago = at(NOW - 40 * DAY);
    let old = vec![event("a", "old")];
    let old = store.intake(&fixture.index, old.into(), long_ago);
    let old = old.await.unwrap().tasks[0];
    let new = fixture.task("a", "new").await;
    dead_letter(&fixture, old, now()).await;
    dead_letter(&fixture, new, now()).await;
    while store.forget_events(at(NOW - 33 * DAY)).await.unwrap() > 0 {}
    let left = listed(&fixture).await;
    assert_eq!((left.len(), left[0].delivery), (1, new.delivery));
}
