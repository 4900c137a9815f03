//! What the reconciler asks, of the backend that has one.

use std::time::Duration;

use hookline_store::{Follow, Sweep};

use crate::fixture::{Fixture, NOW, at, attempted, event};

const GRACE: i64 = 60;

async fn swept(fixture: &Fixture, seconds: i64) -> usize {
    let sweep = Sweep {
        grace: Duration::from_secs(GRACE.unsigned_abs()),
        limit: 500,
    };
    fixture
        .store
        .sweep(sweep, at(NOW + seconds * 1_000_000))
        .await
        .unwrap()
        .len()
}

#[tokio::test]
async fn an_overdue_attempt_is_handed_on_again_after_twice_as_long_each_time() {
    let fixture = Fixture::postgres().await;
    let to = fixture.subscribe("a").await.id;
    let owed = fixture.owed("a", "1").await;
    assert_eq!(swept(&fixture, GRACE - 1).await, 0);
    assert_eq!(swept(&fixture, GRACE).await, 1);
    assert_eq!(swept(&fixture, 3 * GRACE - 1).await, 0);
    assert_eq!(swept(&fixture, 3 * GRACE).await, 1);
    assert_eq!(swept(&fixture, 7 * GRACE - 1).await, 0);
    assert_eq!(swept(&fixture, 7 * GRACE).await, 1);

    let due = at(NOW + 1_000 * 1_000_000);
    fixture
        .record(vec![attempted(
            owed,
            to,
            &event("a", "1"),
            Follow::Again { due },
        )])
        .await;
    assert_eq!(
        swept(&fixture, 1_000 + GRACE - 1).await,
        0,
        "the next attempt counts afresh"
    );
    assert_eq!(swept(&fixture, 1_000 + GRACE).await, 1);
    let next = hookline_core::delivery::OwedAttempt { attempt: 2, ..owed };
    fixture
        .record(vec![attempted(
            next,
            to,
            &event("a", "1"),
            Follow::Delivered,
        )])
        .await;
    assert_eq!(
        swept(&fixture, 1_000_000).await,
        0,
        "a finished delivery is never overdue"
    );
}

#[tokio::test]
async fn an_hour_of_sweeps_over_a_long_backlog_hands_each_delivery_on_a_bounded_number_of_times() {
    let fixture = Fixture::postgres().await;
    fixture.subscribe("a").await;
    let events = (0..1_000).map(|id| event("a", &id.to_string())).collect();
    fixture.take_in(events).await;
    let mut handed_on = 0;
    for turn in 0..240 {
        loop {
            let swept = swept(&fixture, turn * 15).await;
            handed_on += swept;
            if swept == 0 {
                break;
            }
        }
    }
    // At 1, 3, 7, 15 and 31 minutes.
    assert_eq!(handed_on, 5 * 1_000);
}
