use std::sync::Arc;
use std::time::Duration;

use hookline_core::delivery::{AttemptTask, DeliveryState, ExhaustedReason};
use hookline_core::http_log::{HeaderLog, HttpLog, PhaseTimes, PublicAddress};
use hookline_core::outcome::{AttemptOutcome, FailureKind, RequestFailure};
use hookline_core::subscription::{DisabledReason, SubscriptionPatch, SubscriptionStatus};
use hookline_store::{Eligibility, NextStep};

use crate::fixture::{Fixture, NOW, at, attempted, event, now, on_both, organization};

on_both![
    an_attempt_is_recorded_once_by_any_number_of_dispatchers,
    a_delivery_moves_from_attempt_to_attempt_and_ends,
    two_dispatchers_that_record_the_same_attempts_never_deadlock,
    a_gone_receiver_disables_its_subscription,
    a_delivery_made_before_its_subscription_was_switched_off_stays_void,
    a_finished_delivery_is_not_ended_again,
    an_attempt_keeps_its_headers_its_address_and_its_times,
];

fn next(task: AttemptTask) -> AttemptTask {
    AttemptTask {
        attempt: task.attempt + 1,
        ..task
    }
}

async fn an_attempt_is_recorded_once_by_any_number_of_dispatchers(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let task = fixture.task("a", "1").await;
    let record = || attempted(task, to, &event("a", "1"), NextStep::Retry { due: now() });
    assert_eq!(fixture.record(vec![record()]).await.len(), 1);
    assert_eq!(fixture.record(vec![record()]).await.len(), 0);
}

async fn a_delivery_moves_from_attempt_to_attempt_and_ends(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let first = fixture.task("a", "1").await;
    let later = at(NOW + 5_000_000);
    let record = |task, next_step| vec![attempted(task, to, &event("a", "1"), next_step)];
    let state = async || {
        fixture
            .store
            .due_deliveries(vec![first.delivery])
            .await
            .unwrap()[&first.delivery]
            .clone()
    };

    let too_early = record(next(first), NextStep::Delivered);
    assert_eq!(
        fixture.record(too_early).await.len(),
        0,
        "attempt 2 before attempt 1"
    );
    fixture
        .record(record(first, NextStep::Retry { due: later }))
        .await;
    assert_eq!(state().await.state, DeliveryState::Pending { due: later });
    assert_eq!(state().await.attempts, 1);
    fixture
        .record(record(
            next(first),
            NextStep::Exhausted(ExhaustedReason::OutOfAttempts),
        ))
        .await;
    let DeliveryState::Exhausted { reason, .. } = state().await.state else {
        panic!("not exhausted")
    };
    assert_eq!(reason, ExhaustedReason::OutOfAttempts);
    assert_eq!(
        fixture
            .record(record(next(next(first)), NextStep::Delivered))
            .await
            .len(),
        0
    );
}

async fn two_dispatchers_that_record_the_same_attempts_never_deadlock(fixture: Fixture) {
    let mut subscriptions = Vec::new();
    for _ in 0..10 {
        subscriptions.push(fixture.subscribe("a").await.id);
    }
    let events: Vec<_> = (0..20).map(|id| event("a", &id.to_string())).collect();
    fixture.intake(events.clone()).await;
    let mut records = Vec::new();
    for event in &events {
        for &to in &subscriptions {
            let delivery =
                hookline_core::ids::DeliveryId::of(&organization("a"), &event.event.id, to);
            let task = AttemptTask {
                delivery,
                generation: 0,
                attempt: 1,
                subscription: to,
            };
            records.push(attempted(
                task,
                to,
                event,
                NextStep::Exhausted(ExhaustedReason::Gone),
            ));
        }
    }
    let mut dispatchers = tokio::task::JoinSet::new();
    for dispatcher in 0..6 {
        let mut records = records.clone();
        records.rotate_left(dispatcher * 37);
        if dispatcher % 2 == 0 {
            records.reverse();
        }
        let store = fixture.store.clone();
        dispatchers.spawn(async move { store.record(Arc::from(records)).await });
    }
    let moved: usize = dispatchers
        .join_all()
        .await
        .into_iter()
        .map(|moved| moved.unwrap().len())
        .sum();
    assert_eq!(moved, 200);
}

async fn a_gone_receiver_disables_its_subscription(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let task = fixture.task("a", "1").await;
    fixture
        .record(vec![attempted(
            task,
            to,
            &event("a", "1"),
            NextStep::Exhausted(ExhaustedReason::Gone),
        )])
        .await;
    let subscription = fixture
        .store
        .subscription(organization("a"), to)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        subscription.status,
        SubscriptionStatus::Inactive(Some(DisabledReason::Gone))
    );
    assert!(fixture.intake(vec![event("a", "2")]).await.tasks.is_empty());
}

async fn a_delivery_made_before_its_subscription_was_switched_off_stays_void(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let before = fixture.task("a", "1").await;
    let eligibility = async |task: AttemptTask| {
        fixture
            .store
            .due_deliveries(vec![task.delivery])
            .await
            .unwrap()[&task.delivery]
            .eligibility
    };
    assert_eq!(eligibility(before).await, Eligibility::Active);
    for status in [
        SubscriptionStatus::Inactive(None),
        SubscriptionStatus::Active,
    ] {
        let patch = SubscriptionPatch {
            status: Some(status),
            ..Default::default()
        };
        fixture
            .store
            .change_subscription(organization("a"), to, patch, now())
            .await
            .unwrap();
        assert_eq!(eligibility(before).await, Eligibility::Inactive);
    }
    let after = fixture.task("a", "2").await;
    assert_eq!(eligibility(after).await, Eligibility::Active);
    fixture
        .store
        .delete_subscription(organization("a"), to, now())
        .await
        .unwrap();
    assert_eq!(eligibility(after).await, Eligibility::Deleted);
}

async fn a_finished_delivery_is_not_ended_again(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let task = fixture.task("a", "1").await;
    fixture
        .record(vec![attempted(
            task,
            to,
            &event("a", "1"),
            NextStep::Delivered,
        )])
        .await;
    fixture
        .store
        .end(vec![task], DeliveryState::Skipped { at: now() })
        .await
        .unwrap();
    let loaded = fixture
        .store
        .due_deliveries(vec![task.delivery])
        .await
        .unwrap();
    assert!(matches!(
        loaded[&task.delivery].state,
        DeliveryState::Delivered { .. }
    ));
}

async fn an_attempt_keeps_its_headers_its_address_and_its_times(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let mut request_headers = HeaderLog::new();
    request_headers.show("webhook-id", "1");
    request_headers.mask("authorization");
    let mut response_headers = HeaderLog::new();
    response_headers.show("x-text", "\u{fffd} '\"\\\t");
    let whole = HttpLog {
        request_headers: Some(request_headers),
        response_headers: Some(response_headers),
        remote_address: PublicAddress::parse("2606:4700::1111"),
        times: Some(PhaseTimes {
            dns_ms: Some(1),
            connect_ms: None,
            tls_ms: Some(u32::MAX),
            first_byte_ms: Some(0),
        }),
    };
    let unresolved = AttemptOutcome::Failed(RequestFailure {
        kind: FailureKind::Dns,
        message: "no".to_owned(),
        status: None,
    });
    let mut records = Vec::new();
    let mut deliveries = Vec::new();
    for id in ["1", "2"] {
        let task = fixture.task("a", id).await;
        deliveries.push(task.delivery);
        records.push(attempted(task, to, &event("a", id), NextStep::Delivered));
    }
    records[0].http = whole.clone();
    records[1].outcome = unresolved;
    for record in &mut records {
        record.took = Duration::from_millis(1_900);
    }
    assert_eq!(fixture.record(records).await.len(), 2);
    for (delivery, http, duration) in [
        (deliveries[0], whole, 1_900),
        (deliveries[1], HttpLog::default(), 1_000),
    ] {
        let found = fixture
            .store
            .delivery(organization("a"), delivery, 10, None);
        let found = found.await.unwrap().unwrap();
        let attempt = &found.attempts[0];
        assert_eq!(attempt.http, http);
        assert_eq!(attempt.duration_ms, duration);
    }
    let private = "UPDATE attempts SET remote_address = '10.0.0.1', timings = NULL";
    fixture.sql(private);
    let found = fixture
        .store
        .delivery(organization("a"), deliveries[0], 10, None);
    let attempt = found.await.unwrap().unwrap().attempts.remove(0);
    assert_eq!(
        (attempt.http.remote_address, attempt.http.times),
        (None, None)
    );
}
