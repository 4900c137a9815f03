//! Crash counts of the quarantine, and the restart of a dead delivery.

use hookline_core::delivery::{AttemptTask, DeliveryState, ExhaustedReason, StartedBy};
use hookline_core::ids::QuarantineKey;
use hookline_store::{NextStep, RestartResult};
use uuid::Uuid;

use crate::fixture::{DAY, Fixture, NOW, at, attempted, event, now, on_both};

on_both!(
    a_crash_count_stays_until_it_is_cleared,
    old_crash_counts_are_deleted,
    a_delivery_that_was_exhausted_as_poison_can_be_restarted,
);

fn key(number: u128) -> QuarantineKey {
    QuarantineKey(Uuid::from_u128(number))
}

async fn a_crash_count_stays_until_it_is_cleared(fixture: Fixture) {
    let store = &fixture.store;
    let all = || vec![key(3), key(1), key(2), key(1)];
    assert!(store.crash_counts(all()).await.unwrap().is_empty());
    store.raise_crash_counts(all(), now()).await.unwrap();
    store.raise_crash_counts(vec![key(1)], now()).await.unwrap();
    store
        .clear_crash_counts(vec![key(2), key(4)])
        .await
        .unwrap();
    let counts = store.crash_counts(all()).await.unwrap();
    assert_eq!(counts.get(&key(1)), Some(&2));
    assert_eq!(counts.get(&key(2)), None);
    assert_eq!(counts.get(&key(3)), Some(&1));
}

async fn old_crash_counts_are_deleted(fixture: Fixture) {
    let store = &fixture.store;
    store.raise_crash_counts(vec![key(1)], now()).await.unwrap();
    let later = at(NOW + DAY);
    store.raise_crash_counts(vec![key(2)], later).await.unwrap();
    store.forget_crash_counts(later).await.unwrap();
    let left = store.crash_counts(vec![key(1), key(2)]).await.unwrap();
    assert_eq!(left.into_keys().collect::<Vec<_>>(), [key(2)]);
}

async fn a_delivery_that_was_exhausted_as_poison_can_be_restarted(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let task = fixture.task("a", "1").await;
    let next_step = NextStep::Retry { due: now() };
    fixture
        .record(vec![attempted(task, to, &event("a", "1"), next_step)])
        .await;
    let poison = DeliveryState::Exhausted {
        at: now(),
        reason: ExhaustedReason::Poison,
    };
    let store = &fixture.store;
    store.end(vec![task], poison).await.unwrap();

    let later = at(NOW + 1_000_000);
    let again = async || {
        let again = store.restart(None, task.delivery, StartedBy::Retry, later);
        again.await.unwrap()
    };
    let second = AttemptTask {
        generation: 1,
        attempt: 2,
        ..task
    };
    assert_eq!(again().await, RestartResult::Started(second));
    let loaded = store.due_deliveries(vec![task.delivery]).await.unwrap();
    let state = loaded[&task.delivery].state;
    assert_eq!(state, DeliveryState::Pending { due: later });
    assert_eq!(again().await, RestartResult::Pending);
    let record = attempted(second, to, &event("a", "1"), NextStep::Delivered);
    assert_eq!(fixture.record(vec![record]).await.len(), 1);
}
