//! What messages are charged with, and what is given up comes back.

use hookline_core::delivery::{Cause, DeliveryState, GaveUp, OwedAttempt};
use hookline_core::ids::TrialKey;
use hookline_store::{Again, Follow};
use uuid::Uuid;

use crate::fixture::{DAY, Fixture, NOW, at, attempted, event, now, on_both};

on_both!(
    a_trial_that_does_not_end_is_a_charge,
    charges_are_forgotten_with_time,
    a_delivery_that_was_given_up_as_poison_is_started_again_like_any_other,
);

fn key(number: u128) -> TrialKey {
    TrialKey(Uuid::from_u128(number))
}

async fn a_trial_that_does_not_end_is_a_charge(fixture: Fixture) {
    let store = &fixture.store;
    let all = || vec![key(3), key(1), key(2), key(1)];
    assert!(store.charges(all()).await.unwrap().is_empty());
    store.begin_trials(all(), now()).await.unwrap();
    store.begin_trials(vec![key(1)], now()).await.unwrap();
    store.end_trials(vec![key(2), key(4)]).await.unwrap();
    let charges = store.charges(all()).await.unwrap();
    assert_eq!(charges.get(&key(1)), Some(&2));
    assert_eq!(charges.get(&key(2)), None);
    assert_eq!(charges.get(&key(3)), Some(&1));
}

async fn charges_are_forgotten_with_time(fixture: Fixture) {
    let store = &fixture.store;
    store.begin_trials(vec![key(1)], now()).await.unwrap();
    let later = at(NOW + DAY);
    store.begin_trials(vec![key(2)], later).await.unwrap();
    store.forget_trials(later).await.unwrap();
    let left = store.charges(vec![key(1), key(2)]).await.unwrap();
    assert_eq!(left.into_keys().collect::<Vec<_>>(), [key(2)]);
}

async fn a_delivery_that_was_given_up_as_poison_is_started_again_like_any_other(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let owed = fixture.owed("a", "1").await;
    let follow = Follow::Again { due: now() };
    fixture
        .record(vec![attempted(owed, to, &event("a", "1"), follow)])
        .await;
    let poison = DeliveryState::Exhausted {
        at: now(),
        why: GaveUp::Poison,
    };
    let store = &fixture.store;
    store.end(vec![owed], poison).await.unwrap();

    let later = at(NOW + 1_000_000);
    let again = async || {
        let again = store.start_again(None, owed.delivery, Cause::Retry, later);
        again.await.unwrap()
    };
    let second = OwedAttempt {
        generation: 1,
        attempt: 2,
        ..owed
    };
    assert_eq!(again().await, Again::Owed(second));
    let loaded = store.owed(vec![owed.delivery]).await.unwrap();
    let state = loaded[&owed.delivery].state;
    assert_eq!(state, DeliveryState::Pending { due: later });
    assert_eq!(again().await, Again::Pending);
    let record = attempted(second, to, &event("a", "1"), Follow::Delivered);
    assert_eq!(fixture.record(vec![record]).await.len(), 1);
}
