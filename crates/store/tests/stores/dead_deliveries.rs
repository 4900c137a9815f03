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

async fn dead_letter(fixture: &Fixture, owed: AttemptTask, when: Timestamp) {
    let put = fixture
        .store
        .dead_letter_delivery(owed, "bad".to_owned(), when);
    put.await.unwrap();
}

async fn state(fixture: &Fixture, owed: AttemptTask) -> DeliveryState {
    let id = owed.delivery;
    fixture.store.owed(vec![id]).await.unwrap()[&id].state
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
    let owed = fixture.owed("a", "1").await;
    let reason = format!("a NUL \0 and too much{}", "é".repeat(4096));
    store
        .dead_letter_delivery(owed, reason, now())
        .await
        .unwrap();
    // A repeat, as after a commit without an answer, changes nothing.
    dead_letter(&fixture, owed, at(NOW + 1)).await;

    assert_eq!(state(&fixture, owed).await, poison(now()));
    assert_eq!(store.count_dead_deliveries().await.unwrap(), 1);
    let found = store
        .find_dead_delivery(owed.delivery)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.delivery, found.since), (owed.delivery, now()));
    assert!(found.reason.starts_with("a NUL \u{fffd} and too muché"));
    assert!((4_000..4_100).contains(&found.reason.len()));
    assert_eq!(listed(&fixture).await, [found]);

    assert!(store.drop_dead_delivery(owed.delivery).await.unwrap());
    assert!(!store.drop_dead_delivery(owed.delivery).await.unwrap());
    assert_eq!(listed(&fixture).await, []);
    assert_eq!(store.find_dead_delivery(owed.delivery).await.unwrap(), None);
    assert_eq!(store.count_dead_deliveries().await.unwrap(), 0);
    assert_eq!(state(&fixture, owed).await, poison(now()));
}

async fn dead_deliveries_are_paged_oldest_first(fixture: Fixture) {
    fixture.subscribe("a").await;
    let mut expected = Vec::new();
    for (id, when) in [("1", 2), ("2", 1), ("3", 2), ("4", 2), ("5", 0)] {
        let owed = fixture.owed("a", id).await;
        dead_letter(&fixture, owed, at(NOW + when)).await;
        expected.push((at(NOW + when), owed.delivery));
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
    let delivered = fixture.owed("a", "1").await;
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
    let [owed, other] = [fixture.owed("a", "1").await, fixture.owed("a", "2").await];
    dead_letter(&fixture, owed, now()).await;
    dead_letter(&fixture, other, now()).await;
    let again = fixture
        .store
        .restart(None, owed.delivery, StartedBy::Retry, now());
    let RestartResult::Started(second) = again.await.unwrap() else {
        panic!("not owed")
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
    let old = old.await.unwrap().owed[0];
    let new = fixture.owed("a", "new").await;
    dead_letter(&fixture, old, now()).await;
    dead_letter(&fixture, new, now()).await;
    while store.forget_events(at(NOW - 33 * DAY)).await.unwrap() > 0 {}
    let left = listed(&fixture).await;
    assert_eq!((left.len(), left[0].delivery), (1, new.delivery));
}
