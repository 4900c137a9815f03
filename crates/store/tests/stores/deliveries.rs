//! The deliveries and events that the store shows to an organization.

use hookline_core::delivery::{AttemptTask, DeliveryKind, DeliveryState, ExhaustedReason};
use hookline_core::event_type::{EventPatterns, EventType};
use hookline_core::filter::Filter;
use hookline_core::ids::{DeliveryId, EventId, SubscriptionId};
use hookline_core::subscription::{SubscriptionPatch, SubscriptionStatus};
use hookline_store::{
    Delivery, DeliveryQuery, DeliveryStatus, EventDetails, EventSubscriptionsPage, FanoutResult,
    NextStep, PageStart,
};

use crate::fixture::{Fixture, NOW, at, attempted, event, now, on_both, organization};

on_both![
    a_pending_delivery_of_an_inactive_subscription_is_shown_and_filtered_as_skipped,
    every_delivery_is_on_one_page_and_totals_are_exact,
    a_delivery_lists_its_attempts_newest_first,
    an_event_lists_a_delivery_or_a_reason_for_each_subscription,
    an_event_lists_its_subscriptions_in_pages,
];

const STATUSES: [DeliveryStatus; 5] = [
    DeliveryStatus::Pending,
    DeliveryStatus::Delivered,
    DeliveryStatus::Exhausted,
    DeliveryStatus::Skipped,
    DeliveryStatus::Cancelled,
];

fn all(to: SubscriptionId) -> DeliveryQuery {
    DeliveryQuery {
        organization: organization("a"),
        filter: Filter {
            subscription: Some(to),
            ..Filter::default()
        },
        limit: 100,
        start: PageStart::Offset(0),
        body_bytes: None,
    }
}

async fn listed(fixture: &Fixture, query: DeliveryQuery) -> Vec<Delivery> {
    let listing = fixture.store.deliveries(query).await.unwrap();
    assert_eq!(listing.total, Some(listing.rows.len() as u64));
    listing.rows.into_iter().map(|row| row.delivery).collect()
}

fn filtered(
    query: DeliveryQuery,
    change: impl FnOnce(&mut Filter<DeliveryStatus>),
) -> DeliveryQuery {
    let mut query = query;
    change(&mut query.filter);
    query
}

/// The status of each delivery, once the filter was seen to agree with it.
async fn statuses(fixture: &Fixture, to: SubscriptionId, ids: &[DeliveryId]) -> Vec<&'static str> {
    let rows = listed(fixture, all(to)).await;
    for status in STATUSES {
        let query = filtered(all(to), |filter| filter.status = Some(status));
        let of_status = rows.iter().filter(|row| row.status == status).cloned();
        assert_eq!(
            listed(fixture, query).await,
            of_status.collect::<Vec<_>>(),
            "{status:?}"
        );
    }
    let status = |id| {
        rows.iter()
            .find(|row| row.id == id)
            .unwrap()
            .status
            .as_str()
    };
    ids.iter().map(|id| status(*id)).collect()
}

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

async fn a_pending_delivery_of_an_inactive_subscription_is_shown_and_filtered_as_skipped(
    fixture: Fixture,
) {
    let to = fixture.subscribe("a").await.id;
    let mut ids = Vec::new();
    for (id, next_step) in [
        ("pending", None),
        ("again", Some(NextStep::Retry { due: at(NOW + 7) })),
        ("delivered", Some(NextStep::Delivered)),
        (
            "exhausted",
            Some(NextStep::Exhausted(ExhaustedReason::OutOfAttempts)),
        ),
    ] {
        let task = fixture.task("a", id).await;
        if let Some(next_step) = next_step {
            let record = attempted(task, to, &event("a", id), next_step);
            assert_eq!(fixture.record(vec![record]).await.len(), 1);
        }
        ids.push(task.delivery);
    }
    let test = fixture.store.create_test(to, event("a", "test"), now());
    ids.push(test.await.unwrap().unwrap().delivery);
    assert_eq!(
        statuses(&fixture, to, &ids).await,
        ["pending", "pending", "delivered", "exhausted", "pending"]
    );
    let again = fixture
        .store
        .delivery(organization("a"), ids[1], 100, None)
        .await;
    let again = again.unwrap().unwrap().delivery;
    assert_eq!(again.next_attempt_at, Some(at(NOW + 7)));
    assert_eq!((again.attempts_made, again.finished_at), (1, None));

    for status in [
        SubscriptionStatus::Inactive(None),
        SubscriptionStatus::Active,
    ] {
        switch(&fixture, to, status).await;
        assert_eq!(
            statuses(&fixture, to, &ids).await,
            ["skipped", "skipped", "delivered", "exhausted", "pending"]
        );
    }
    let again = fixture
        .store
        .delivery(organization("a"), ids[1], 100, None)
        .await;
    let again = again.unwrap().unwrap().delivery;
    assert_eq!((again.next_attempt_at, again.finished_at), (None, None));

    let skipped = DeliveryState::Skipped { at: at(NOW + 9) };
    let first = AttemptTask {
        delivery: ids[0],
        generation: 0,
        attempt: 1,
        subscription: to,
    };
    fixture.store.end(vec![first], skipped).await.unwrap();
    let deleted = fixture
        .store
        .delete_subscription(organization("a"), to, now());
    assert!(deleted.await.unwrap());
    assert_eq!(
        statuses(&fixture, to, &ids).await,
        [
            "skipped",
            "cancelled",
            "delivered",
            "exhausted",
            "cancelled"
        ]
    );
    let ended = fixture
        .store
        .delivery(organization("a"), ids[0], 100, None)
        .await;
    let ended = ended.unwrap().unwrap().delivery;
    assert_eq!(ended.finished_at, Some(at(NOW + 9)));
}

async fn every_delivery_is_on_one_page_and_totals_are_exact(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let other = fixture.subscribe("a").await.id;
    // Several at one moment, so that pages are told apart by the ids too.
    for moment in 0..5 {
        let events: Vec<_> = (0..5)
            .map(|id| event("a", &format!("{moment}.{id}")))
            .collect();
        let given = fixture
            .store
            .intake(&fixture.index, events.into(), at(NOW + moment));
        assert_eq!(given.await.unwrap().tasks.len(), 10);
    }
    let (mut seen, mut start) = (Vec::new(), PageStart::Offset(0));
    loop {
        let query = DeliveryQuery {
            limit: 4,
            start,
            ..all(to)
        };
        let page = fixture.store.deliveries(query).await.unwrap();
        assert_eq!(page.total, Some(25));
        let Some(last) = page.rows.last() else { break };
        start = PageStart::Cursor(last.delivery.cursor());
        seen.extend(page.rows.into_iter().map(|row| row.delivery));
    }
    assert_eq!(seen, listed(&fixture, all(to)).await);
    assert!(seen.is_sorted_by(|newer, older| newer.created_at >= older.created_at));
    assert_eq!(listed(&fixture, all(other)).await.len(), 25);
    let offset = DeliveryQuery {
        start: PageStart::Offset(20),
        ..all(to)
    };
    let tail = fixture.store.deliveries(offset).await.unwrap();
    let rows: Vec<Delivery> = tail.rows.into_iter().map(|row| row.delivery).collect();
    assert_eq!((rows.as_slice(), tail.total), (&seen[20..], Some(25)));

    for (since, until, count) in [
        (Some(1), None, 20),
        (None, Some(1), 5),
        (Some(1), Some(3), 10),
        (Some(3), Some(1), 0),
    ] {
        let query = filtered(all(to), |filter| {
            filter.since = since.map(|moment| at(NOW + moment));
            filter.until = until.map(|moment| at(NOW + moment));
        });
        assert_eq!(listed(&fixture, query).await.len(), count);
    }
    for (event_type, count) in [("workflow.failed", 25), ("workflow.started", 0)] {
        let event_type = hookline_core::event_type::EventType::parse(event_type).unwrap();
        let query = filtered(all(to), |filter| filter.event_type = Some(event_type));
        assert_eq!(listed(&fixture, query).await.len(), count);
    }
    let of_b = DeliveryQuery {
        organization: organization("b"),
        ..all(to)
    };
    assert!(listed(&fixture, of_b).await.is_empty());
}

async fn a_delivery_lists_its_attempts_newest_first(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let mut task = fixture.task("a", "1").await;
    for attempt in 1..=3 {
        task.attempt = attempt;
        let next_step = match attempt {
            3 => NextStep::Exhausted(ExhaustedReason::OutOfAttempts),
            _ => NextStep::Retry { due: now() },
        };
        let mut record = attempted(task, to, &event("a", "1"), next_step);
        record.started = at(NOW + i64::from(attempt));
        fixture.record(vec![record]).await;
    }
    let details = fixture
        .store
        .delivery(organization("a"), task.delivery, 100, None);
    let details = details.await.unwrap().unwrap();
    let numbers: Vec<u32> = details.attempts.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(details.request_body.as_bytes(), event("a", "1").event.body);
    let delivery = details.delivery;
    assert_eq!(delivery.attempts_made, 3);
    assert_eq!(
        delivery.exhausted_reason,
        Some(ExhaustedReason::OutOfAttempts)
    );
    assert!(delivery.finished_at.is_some());
    assert_eq!(
        (delivery.subscription, delivery.kind),
        (to, DeliveryKind::Event)
    );
    let foreign = fixture
        .store
        .delivery(organization("b"), task.delivery, 100, None);
    assert_eq!(foreign.await.unwrap(), None);
}

async fn event_details(fixture: &Fixture, owner: &str, id: &str) -> Option<EventDetails> {
    let id = EventId::parse(id).unwrap();
    let page = EventSubscriptionsPage {
        limit: 100,
        after: None,
    };
    let details = fixture.store.event(organization(owner), id, page).await;
    details.unwrap()
}

async fn an_event_lists_its_subscriptions_in_pages(fixture: Fixture) {
    let mut expected = Vec::new();
    for number in 0..7 {
        let id = fixture.subscribe("a").await.id;
        expected.push((id, "pending"));
        if number % 3 == 1 {
            switch(&fixture, id, SubscriptionStatus::Inactive(None)).await;
            expected[number].1 = "skipped";
        }
    }
    let event = event("a", "1");
    fixture.intake(vec![event.clone()]).await;
    for number in [2, 5] {
        let deleted =
            fixture
                .store
                .delete_subscription(organization("a"), expected[number].0, now());
        assert!(deleted.await.unwrap());
        expected[number].1 = "cancelled";
    }
    for _ in 0..3 {
        // They were there before the event, and have no delivery of it.
        expected.push((fixture.subscribe("a").await.id, "changed_since"));
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = EventSubscriptionsPage { limit: 3, after };
        let details = fixture
            .store
            .event(organization("a"), event.event.id.clone(), page);
        let details = details.await.unwrap().unwrap();
        let Some(last) = details.subscriptions.last() else {
            break;
        };
        assert!(details.subscriptions.len() <= 3);
        after = Some(last.subscription);
        seen.extend(fanout_results(&details));
    }
    assert_eq!(seen, expected);
}

/// The fan-out results of an event, by subscription.
fn fanout_results(details: &EventDetails) -> Vec<(SubscriptionId, &'static str)> {
    let outcome = |result: &FanoutResult| match result {
        FanoutResult::Delivery(delivery) => delivery.status.as_str(),
        FanoutResult::CreatedLater => "created_later",
        FanoutResult::Filtered => "filtered",
        FanoutResult::ChangedSince => "changed_since",
    };
    let fanout_results = details.subscriptions.iter();
    fanout_results
        .map(|entry| (entry.subscription, outcome(&entry.result)))
        .collect()
}

async fn an_event_lists_a_delivery_or_a_reason_for_each_subscription(fixture: Fixture) {
    let [gets, off, on_again, deleted, gone_before, filters] = [
        fixture.subscribe("a").await.id,
        fixture.subscribe("a").await.id,
        fixture.subscribe("a").await.id,
        fixture.subscribe("a").await.id,
        fixture.subscribe("a").await.id,
        fixture.subscribe("a").await.id,
    ];
    fixture.subscribe("b").await;
    for id in [off, on_again] {
        switch(&fixture, id, SubscriptionStatus::Inactive(None)).await;
    }
    let delete = async |id| {
        let deleted = fixture
            .store
            .delete_subscription(organization("a"), id, now());
        assert!(deleted.await.unwrap());
    };
    delete(gone_before).await;
    let want = async |wanted: EventType| {
        let patch = SubscriptionPatch {
            events: Some(EventPatterns::new(vec![wanted.into()]).unwrap()),
            ..Default::default()
        };
        let changed = fixture
            .store
            .change_subscription(organization("a"), filters, patch, now());
        changed.await.unwrap().unwrap();
    };
    want(EventType::WorkflowStarted).await;

    let sent = event("a", "1");
    let before = at(NOW + 1);
    let given = fixture
        .store
        .intake(&fixture.index, vec![sent.clone()].into(), before);
    assert_eq!(given.await.unwrap().tasks.len(), 2);
    switch(&fixture, on_again, SubscriptionStatus::Active).await;
    delete(deleted).await;

    let details = event_details(&fixture, "a", "1").await.unwrap();
    assert_eq!(details.body.as_bytes(), sent.event.body);
    assert_eq!(details.received_at, before);
    assert_eq!(
        fanout_results(&details),
        [
            (gets, "pending"),
            (off, "skipped"),
            (on_again, "skipped"),
            (deleted, "cancelled"),
            (filters, "filtered"),
        ]
    );
    assert_eq!(event_details(&fixture, "b", "1").await, None);
    assert_eq!(event_details(&fixture, "a", "2").await, None);

    // A subscription that is younger than the event gets that reason, whatever types it wants.
    let given = fixture
        .store
        .intake(&fixture.index, vec![event("a", "0")].into(), at(NOW - 1));
    given.await.unwrap();
    let details = event_details(&fixture, "a", "0").await.unwrap();
    assert!(fanout_results(&details).contains(&(filters, "created_later")));

    want(EventType::WorkflowFailed).await;
    let details = event_details(&fixture, "a", "1").await.unwrap();
    assert!(fanout_results(&details).contains(&(filters, "changed_since")));

    let test = fixture.store.create_test(off, event("a", "test"), now());
    test.await.unwrap().unwrap();
    let details = event_details(&fixture, "a", "test").await.unwrap();
    assert_eq!(fanout_results(&details), [(off, "pending")]);
}
