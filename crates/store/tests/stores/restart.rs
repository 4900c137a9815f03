//! Restart of skipped and finished deliveries.

use hookline_core::delivery::{
    AttemptTask, DeliveryState, ExhaustedReason, RetryRun, StartedBy, Trigger,
};
use hookline_core::ids::{DeliveryId, EventId, SubscriptionId};
use hookline_core::subscription::{SubscriptionPatch, SubscriptionStatus};
use hookline_store::{DueDelivery, Eligibility, NextStep, RestartResult};

use crate::fixture::{Fixture, NOW, at, attempted, event, now, on_both, organization};

on_both![
    an_inactive_subscription_gets_a_skipped_delivery_that_is_not_due,
    a_delivery_that_is_started_again_goes_on_counting_attempts,
    a_restarted_skipped_delivery_is_due,
    of_many_simultaneous_restarts_one_succeeds,
    a_delivery_is_not_started_again_while_nothing_would_be_sent,
    a_late_step_of_an_earlier_run_does_not_end_the_present_one,
];

async fn switch(fixture: &Fixture, id: SubscriptionId, status: SubscriptionStatus) {
    let patch = SubscriptionPatch {
        status: Some(status),
        ..Default::default()
    };
    let changed = fixture
        .store
        .change_subscription(organization("a"), id, patch, now());
    changed.await.unwrap().unwrap();
}

async fn found(fixture: &Fixture, id: DeliveryId) -> DueDelivery {
    fixture.store.due_deliveries(vec![id]).await.unwrap()[&id].clone()
}

async fn again(fixture: &Fixture, id: DeliveryId, cause: StartedBy) -> RestartResult {
    let owner = Some(organization("a"));
    let started = fixture.store.restart(owner, id, cause, at(NOW + 5));
    started.await.unwrap()
}

fn task(again: RestartResult) -> AttemptTask {
    let RestartResult::Started(task) = again else {
        panic!("not started: {again:?}")
    };
    task
}

async fn an_inactive_subscription_gets_a_skipped_delivery_that_is_not_due(fixture: Fixture) {
    let off = fixture.subscribe("a").await.id;
    let deleted = fixture.subscribe("a").await.id;
    let deletion = fixture
        .store
        .delete_subscription(organization("a"), deleted, now());
    assert!(deletion.await.unwrap());
    switch(&fixture, off, SubscriptionStatus::Inactive(None)).await;
    for _ in 0..2 {
        assert_eq!(fixture.intake(vec![event("a", "1")]).await.tasks, []);
    }
    let delivery = DeliveryId::of(&organization("a"), &EventId::parse("1").unwrap(), off);
    let state = found(&fixture, delivery).await.state;
    assert_eq!(state, DeliveryState::Skipped { at: now() });
    let none = DeliveryId::of(&organization("a"), &EventId::parse("1").unwrap(), deleted);
    assert!(
        fixture
            .store
            .due_deliveries(vec![none])
            .await
            .unwrap()
            .is_empty()
    );

    switch(&fixture, off, SubscriptionStatus::Active).await;
    assert_eq!(fixture.intake(vec![event("a", "2")]).await.tasks.len(), 1);
}

async fn a_delivery_that_is_started_again_goes_on_counting_attempts(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let first = fixture.task("a", "1").await;
    let exhausted = NextStep::Exhausted(ExhaustedReason::OutOfAttempts);
    fixture
        .record(vec![attempted(first, to, &event("a", "1"), exhausted)])
        .await;

    let second = task(again(&fixture, first.delivery, StartedBy::Replay).await);
    let expected = AttemptTask {
        generation: 1,
        attempt: 2,
        ..first
    };
    assert_eq!(second, expected);
    let known = found(&fixture, first.delivery).await;
    assert_eq!(known.state, DeliveryState::Pending { due: at(NOW + 5) });
    assert_eq!((known.generation, known.attempts), (1, 1));
    let run = RetryRun {
        started_by: StartedBy::Replay,
        attempts_before: 1,
    };
    assert_eq!(known.run, run);

    // A message of the first run moves nothing any more.
    let old = AttemptTask {
        attempt: 2,
        ..first
    };
    let mut record = attempted(old, to, &event("a", "1"), NextStep::Delivered);
    assert_eq!(fixture.record(vec![record.clone()]).await.len(), 0);
    record.task = second;
    record.run = run;
    record.started = at(NOW + 6);
    assert_eq!(fixture.record(vec![record]).await.len(), 1);
    let details = fixture
        .store
        .delivery(organization("a"), first.delivery, 100, None);
    let attempts = details.await.unwrap().unwrap().attempts;
    let made: Vec<_> = attempts
        .iter()
        .map(|entry| (entry.number, entry.trigger))
        .collect();
    assert_eq!(made, [(2, Trigger::Replay), (1, Trigger::Event)]);

    let third = task(again(&fixture, first.delivery, StartedBy::Retry).await);
    assert_eq!((third.generation, third.attempt), (2, 3));
}

async fn a_restarted_skipped_delivery_is_due(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    // Before it was switched off, and while it was off.
    let void = fixture.task("a", "1").await;
    switch(&fixture, to, SubscriptionStatus::Inactive(None)).await;
    fixture.intake(vec![event("a", "2")]).await;
    let missed = DeliveryId::of(&organization("a"), &EventId::parse("2").unwrap(), to);
    switch(&fixture, to, SubscriptionStatus::Active).await;
    for (id, generation) in [(void.delivery, 1), (missed, 1)] {
        let next = task(again(&fixture, id, StartedBy::Retry).await);
        assert_eq!((next.generation, next.attempt), (generation, 1));
        let known = found(&fixture, id).await;
        assert_eq!(known.eligibility, Eligibility::Active);
        assert_eq!(
            again(&fixture, id, StartedBy::Retry).await,
            RestartResult::Pending
        );
    }
}

async fn of_many_simultaneous_restarts_one_succeeds(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let first = fixture.task("a", "1").await;
    let record = attempted(first, to, &event("a", "1"), NextStep::Delivered);
    fixture.record(vec![record]).await;
    let one = || again(&fixture, first.delivery, StartedBy::Retry);
    let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
    let all = [a, b, c, d];
    let won = all
        .iter()
        .filter(|one| matches!(one, RestartResult::Started(_)));
    assert_eq!(won.count(), 1, "{all:?}");
    assert!(all.contains(&RestartResult::Pending));
}

async fn a_delivery_is_not_started_again_while_nothing_would_be_sent(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let first = fixture.task("a", "1").await;
    let id = first.delivery;
    let retry = async || again(&fixture, id, StartedBy::Retry).await;
    assert_eq!(retry().await, RestartResult::Pending);
    fixture
        .record(vec![attempted(
            first,
            to,
            &event("a", "1"),
            NextStep::Delivered,
        )])
        .await;
    let of_b = Some(organization("b"));
    let of_b = fixture.store.restart(of_b, id, StartedBy::Retry, now());
    assert_eq!(of_b.await.unwrap(), RestartResult::Unknown);
    let unknown = DeliveryId(Default::default());
    assert_eq!(
        again(&fixture, unknown, StartedBy::Retry).await,
        RestartResult::Unknown
    );
    switch(&fixture, to, SubscriptionStatus::Inactive(None)).await;
    assert_eq!(retry().await, RestartResult::Inactive);
    let test = fixture.store.create_test(to, event("a", "test"), now());
    let test = test.await.unwrap().unwrap();
    let mut record = attempted(test, to, &event("a", "test"), NextStep::Delivered);
    record.kind = hookline_core::delivery::DeliveryKind::Test;
    fixture.record(vec![record]).await;
    // A test is sent to an inactive one, too.
    task(again(&fixture, test.delivery, StartedBy::Retry).await);
    let deleted = fixture
        .store
        .delete_subscription(organization("a"), to, now());
    assert!(deleted.await.unwrap());
    assert_eq!(retry().await, RestartResult::Deleted);
    // A call without an organization may restart any delivery.
    let any = fixture.store.restart(None, id, StartedBy::Retry, now());
    assert_eq!(any.await.unwrap(), RestartResult::Deleted);
}

async fn a_late_step_of_an_earlier_run_does_not_end_the_present_one(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let void = fixture.task("a", "1").await;
    switch(&fixture, to, SubscriptionStatus::Inactive(None)).await;
    switch(&fixture, to, SubscriptionStatus::Active).await;
    // A dispatcher has read that it is void, and is slower than its owner.
    let next = task(again(&fixture, void.delivery, StartedBy::Retry).await);
    let skipped = DeliveryState::Skipped { at: now() };
    let end = async |task| fixture.store.end(vec![task], skipped).await.unwrap();
    end(void).await;
    let state = found(&fixture, void.delivery).await.state;
    assert!(matches!(state, DeliveryState::Pending { .. }), "{state:?}");
    end(next).await;
    assert_eq!(found(&fixture, void.delivery).await.state, skipped);
}
