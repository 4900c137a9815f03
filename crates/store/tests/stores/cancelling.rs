//! A pending delivery is cancelled, or its next attempt is brought forward, beside the dispatcher that has it.

use hookline_core::delivery::{AttemptTask, DeliveryState, StartedBy};
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_core::subscription::{SubscriptionPatch, SubscriptionStatus};
use hookline_core::timestamp::Timestamp;
use hookline_store::{
    AttemptRecord, CancelResult, DeliveredCase, DueDelivery, NextStep, PendingCase, RestartResult,
    RetryCases,
};

use crate::fixture::{Fixture, NOW, at, attempted, event, now, on_both, organization};

on_both![
    a_cancelled_delivery_stays_cancelled_when_its_request_ends,
    of_a_record_and_a_cancellation_one_counts,
    only_a_pending_delivery_of_the_organization_is_cancelled,
    a_cancelled_delivery_can_be_retried,
    a_pending_delivery_is_brought_forward_and_goes_on_counting,
    a_request_in_flight_is_not_made_twice_by_a_retry,
    a_retry_without_force_leaves_a_delivered_one,
];

const SECOND: i64 = 1_000_000;

const FORWARD: RetryCases = RetryCases {
    pending: PendingCase::BroughtForward,
    delivered: DeliveredCase::Restarted,
};

async fn cancel(fixture: &Fixture, id: DeliveryId) -> CancelResult {
    let owner = organization("a");
    let cancelled = fixture.store.cancel_delivery(owner, id, at(NOW + SECOND));
    cancelled.await.unwrap()
}

async fn retry(fixture: &Fixture, id: DeliveryId, cases: RetryCases, when: i64) -> RestartResult {
    let owner = organization("a");
    let retried = fixture.store.retry(owner, id, cases, at(NOW + when));
    retried.await.unwrap()
}

async fn found(fixture: &Fixture, id: DeliveryId) -> DueDelivery {
    fixture.store.due_deliveries(vec![id]).await.unwrap()[&id].clone()
}

fn delivered(task: AttemptTask) -> AttemptRecord {
    attempted(
        task,
        task.subscription,
        &event("a", "1"),
        NextStep::Delivered,
    )
}

fn due(when: i64) -> Timestamp {
    at(NOW + when)
}

/// A delivery that waits for its second attempt, an hour from now.
async fn waiting(fixture: &Fixture) -> AttemptTask {
    let first = fixture.task("a", "1").await;
    let retry = NextStep::Retry {
        due: due(3_600 * SECOND),
    };
    let record = attempted(first, first.subscription, &event("a", "1"), retry);
    assert_eq!(fixture.record(vec![record]).await.len(), 1);
    AttemptTask {
        attempt: 2,
        ..first
    }
}

async fn a_cancelled_delivery_stays_cancelled_when_its_request_ends(fixture: Fixture) {
    fixture.subscribe("a").await;
    let task = fixture.task("a", "1").await;
    assert_eq!(
        cancel(&fixture, task.delivery).await,
        CancelResult::Cancelled
    );
    let recorded = fixture.record(vec![delivered(task)]).await;
    assert!(recorded.is_empty());
    let row = found(&fixture, task.delivery).await;
    let cancelled = DeliveryState::Cancelled {
        at: at(NOW + SECOND),
    };
    assert_eq!((row.state, row.attempts), (cancelled, 0));
    assert_eq!(fixture.number("SELECT count(*) FROM attempts"), 0);
    assert_eq!(
        fixture.store.count_due(due(SECOND * 9), 10).await.unwrap(),
        0
    );
}

async fn of_a_record_and_a_cancellation_one_counts(fixture: Fixture) {
    fixture.subscribe("a").await;
    for number in 0..20 {
        let id = number.to_string();
        let task = fixture.task("a", &id).await;
        let record = attempted(
            task,
            task.subscription,
            &event("a", &id),
            NextStep::Delivered,
        );
        let (recorded, cancelled) = tokio::join!(
            fixture.record(vec![record]),
            cancel(&fixture, task.delivery)
        );
        let state = found(&fixture, task.delivery).await.state;
        match cancelled {
            CancelResult::Cancelled => {
                assert!(recorded.is_empty());
                assert!(
                    matches!(state, DeliveryState::Cancelled { .. }),
                    "{state:?}"
                );
            }
            _ => {
                assert_eq!(recorded.len(), 1);
                assert!(
                    matches!(state, DeliveryState::Delivered { .. }),
                    "{state:?}"
                );
            }
        }
    }
    let ended = "SELECT coalesce(sum(count), 0) FROM attempt_stats WHERE subscription_id = 0";
    assert_eq!(fixture.number(ended), 20);
}

async fn only_a_pending_delivery_of_the_organization_is_cancelled(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let task = fixture.task("a", "1").await;
    let of_b = fixture
        .store
        .cancel_delivery(organization("b"), task.delivery, now());
    assert_eq!(of_b.await.unwrap(), CancelResult::Unknown);
    let none = DeliveryId(Default::default());
    assert_eq!(cancel(&fixture, none).await, CancelResult::Unknown);
    fixture.record(vec![delivered(task)]).await;
    let refused = cancel(&fixture, task.delivery).await;
    assert_eq!(refused, CancelResult::NotPending);
    // Void: its owner sees that it is skipped.
    let void = fixture.task("a", "2").await;
    switch_off(&fixture, to).await;
    let refused = cancel(&fixture, void.delivery).await;
    assert_eq!(refused, CancelResult::NotPending);
}

async fn switch_off(fixture: &Fixture, id: SubscriptionId) {
    let patch = SubscriptionPatch {
        status: Some(SubscriptionStatus::Inactive(None)),
        ..Default::default()
    };
    let owner = organization("a");
    let changed = fixture.store.change_subscription(owner, id, patch, now());
    changed.await.unwrap().unwrap();
}

async fn a_cancelled_delivery_can_be_retried(fixture: Fixture) {
    fixture.subscribe("a").await;
    let task = waiting(&fixture).await;
    cancel(&fixture, task.delivery).await;
    let owner = Some(organization("a"));
    let again = fixture
        .store
        .restart(owner, task.delivery, StartedBy::Retry, due(2 * SECOND));
    let next = AttemptTask {
        generation: 1,
        ..task
    };
    assert_eq!(again.await.unwrap(), RestartResult::Started(next));
    // The request that was in flight when it was cancelled.
    assert!(fixture.record(vec![delivered(task)]).await.is_empty());
    assert_eq!(fixture.record(vec![delivered(next)]).await.len(), 1);
}

async fn a_pending_delivery_is_brought_forward_and_goes_on_counting(fixture: Fixture) {
    fixture.subscribe("a").await;
    let task = waiting(&fixture).await;
    let store = &fixture.store;
    let refused = RetryCases {
        pending: PendingCase::Refused,
        ..FORWARD
    };
    let refused = retry(&fixture, task.delivery, refused, 2 * SECOND).await;
    assert_eq!(refused, RestartResult::Pending);
    assert_eq!(store.count_due(due(2 * SECOND), 10).await.unwrap(), 0);
    for _ in 0..2 {
        let retried = retry(&fixture, task.delivery, FORWARD, 2 * SECOND).await;
        assert_eq!(retried, RestartResult::Started(task));
    }
    let row = found(&fixture, task.delivery).await;
    let pending = DeliveryState::Pending {
        due: due(2 * SECOND),
    };
    assert_eq!((row.state, row.generation, row.attempts), (pending, 0, 1));
    assert_eq!(row.run.started_by, StartedBy::First);
    assert_eq!(store.count_due(due(2 * SECOND), 10).await.unwrap(), 1);
}

async fn a_request_in_flight_is_not_made_twice_by_a_retry(fixture: Fixture) {
    fixture.subscribe("a").await;
    // It is due since its intake, so its request may be on its way.
    let task = fixture.task("a", "1").await;
    let retried = retry(&fixture, task.delivery, FORWARD, 3 * SECOND).await;
    assert_eq!(retried, RestartResult::Started(task));
    let row = found(&fixture, task.delivery).await;
    assert_eq!(row.state, DeliveryState::Pending { due: now() });
    let (one, other) = tokio::join!(
        fixture.record(vec![delivered(task)]),
        fixture.record(vec![delivered(task)])
    );
    assert_eq!(one.len() + other.len(), 1);
    assert_eq!(fixture.number("SELECT count(*) FROM attempts"), 1);
}

async fn a_retry_without_force_leaves_a_delivered_one(fixture: Fixture) {
    fixture.subscribe("a").await;
    let task = fixture.task("a", "1").await;
    fixture.record(vec![delivered(task)]).await;
    let gentle = RetryCases {
        delivered: DeliveredCase::Refused,
        ..FORWARD
    };
    let refused = retry(&fixture, task.delivery, gentle, SECOND).await;
    assert_eq!(refused, RestartResult::Delivered);
    let RestartResult::Started(next) = retry(&fixture, task.delivery, FORWARD, SECOND).await else {
        panic!("not started")
    };
    assert_eq!((next.generation, next.attempt), (1, 2));
    // A pending one of that generation is brought forward, not restarted.
    let again = retry(&fixture, task.delivery, gentle, SECOND).await;
    assert_eq!(again, RestartResult::Started(next));
}
