//! What is pending now.

use super::*;

on_both![
    pending_deliveries_count_by_what_they_wait_for,
    a_delivery_that_its_subscription_no_longer_receives_is_not_pending,
    the_oldest_due_delivery_is_found_behind_many_others,
    counts_end_at_ten_thousand,
];

async fn pending_deliveries_count_by_what_they_wait_for(fixture: Fixture) {
    fixture.subscribe("a").await;
    let mut tasks = Vec::new();
    for id in ["1", "2", "3"] {
        tasks.push(fixture.task("a", id).await);
    }
    let later = NextStep::Retry {
        due: at(NOW + HOUR),
    };
    let record = attempted(tasks[0], tasks[0].subscription, &event("a", "1"), later);
    fixture.record(vec![record]).await;
    fixture.sql(
        "UPDATE deliveries SET backlog = 1 WHERE due IS NOT NULL AND attempts = 0 AND id = (
                     SELECT id FROM deliveries WHERE attempts = 0 LIMIT 1)",
    );
    let store = &fixture.store;
    let numbers = async |scope| {
        store
            .current_numbers(scope, at(NOW + MINUTE))
            .await
            .unwrap()
    };
    let found = numbers(scope()).await;
    let mut waiting: Vec<_> = found
        .waiting
        .iter()
        .map(|one| (one.waiting_for.map(WaitingFor::as_str), one.deliveries))
        .collect();
    waiting.sort_unstable();
    assert_eq!(
        waiting,
        [(None, 1), (Some("concurrency"), 1), (Some("retry"), 1)]
    );
    assert_eq!((found.pending, found.is_capped), (3, false));
    assert_eq!(found.oldest_due, Some(now()));
    let narrowed = StatsScope {
        subscription: Some(tasks[0].subscription),
        event_type: Some(EventType::parse("workflow.failed").unwrap()),
        ..scope()
    };
    assert_eq!(numbers(narrowed.clone()).await, found);
    let of_other_type = StatsScope {
        event_type: Some(EventType::parse("workflow.started").unwrap()),
        ..narrowed
    };
    let none = numbers(of_other_type).await;
    assert_eq!((none.pending, none.oldest_due), (0, None));
    let of_other = StatsScope {
        organization: organization("b"),
        ..scope()
    };
    assert_eq!(numbers(of_other).await.pending, 0);
}

async fn a_delivery_that_its_subscription_no_longer_receives_is_not_pending(fixture: Fixture) {
    fixture.subscribe("a").await;
    let task = fixture.task("a", "1").await;
    switch_off(&fixture, task).await;
    let found = fixture.store.current_numbers(scope(), now()).await.unwrap();
    assert_eq!((found.pending, found.oldest_due), (0, None));
}

async fn the_oldest_due_delivery_is_found_behind_many_others(fixture: Fixture) {
    fixture.subscribe("a").await;
    fixture.subscribe("a").await;
    fixture.intake(vec![event("a", "1")]).await;
    fixture.sql(&format!(
        "UPDATE deliveries SET due = due - {HOUR} WHERE subscription_id = (SELECT max(id) FROM subscriptions)"
    ));
    let found = fixture.store.current_numbers(scope(), now()).await.unwrap();
    assert_eq!((found.pending, found.oldest_due), (2, Some(at(NOW - HOUR))));
}

async fn counts_end_at_ten_thousand(fixture: Fixture) {
    fixture.subscribe("a").await;
    for part in 0..11 {
        let ids = (0..1_000).map(|id| event("a", &format!("{part}-{id}")));
        fixture.intake(ids.collect()).await;
    }
    let found = fixture.store.current_numbers(scope(), now()).await.unwrap();
    assert!(found.is_capped);
    assert_eq!(found.pending, 10_000);
}
