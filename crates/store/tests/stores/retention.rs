use hookline_core::filter::Filter;
use hookline_core::timestamp::Timestamp;
use hookline_store::{IncomingEvent, LogQuery, NextStep, PageStart};

use crate::fixture::{DAY, Fixture, NOW, at, attempted, event, now, on_both, organization};

mod rights;

on_both![
    attempts_older_than_the_retention_are_deleted_with_their_totals,
    events_that_three_dispatchers_delete_at_once_are_subtracted_once,
    an_event_with_many_deliveries_is_deleted_in_slices,
    many_attempts_are_forgotten_in_slices,
    retention_does_not_follow_a_jump_of_the_clock,
];

/// How many rows a slice has at most.
const SLICE: usize = 1_000;

/// When what is to be forgotten was taken in.
fn long_ago() -> Timestamp {
    at(NOW - 40 * DAY)
}

/// Takes events in, each with one delivery that is delivered, on one day.
async fn delivered(fixture: &Fixture, ids: std::ops::Range<usize>) {
    let to = fixture.subscribe("a").await.id;
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    for ids in ids.chunks(500) {
        let events: Vec<IncomingEvent> = ids.iter().map(|id| event("a", id)).collect();
        let given = fixture
            .store
            .intake(&fixture.index, events.clone().into(), long_ago())
            .await
            .unwrap();
        let records = given.tasks.iter().zip(&events).map(|(task, event)| {
            let mut record = attempted(*task, to, event, NextStep::Delivered);
            record.started = long_ago();
            record
        });
        fixture.record(records.collect()).await;
    }
}

async fn events_that_three_dispatchers_delete_at_once_are_subtracted_once(fixture: Fixture) {
    delivered(&fixture, 0..1_200).await;
    fixture.intake(vec![event("a", "new")]).await;
    let mut dispatchers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let store = fixture.store.clone();
        dispatchers.spawn(async move {
            while store.forget_events(at(NOW - 33 * DAY)).await.unwrap() > 0 {}
        });
    }
    dispatchers.join_all().await;
    let store = &fixture.store;
    while store.forget_events(at(NOW - 33 * DAY)).await.unwrap() > 0 {}
    let stored = store.stored_bytes(organization("a")).await.unwrap();
    assert_eq!(stored, event("a", "new").event.body.len() as u64);
}

async fn an_event_with_many_deliveries_is_deleted_in_slices(fixture: Fixture) {
    const SUBSCRIPTIONS: usize = 1_000;
    for _ in 0..SUBSCRIPTIONS {
        fixture.subscribe("a").await;
    }
    let store = &fixture.store;
    for id in ["1", "2", "3"] {
        let taken_in = store.intake(&fixture.index, vec![event("a", id)].into(), long_ago());
        assert_eq!(taken_in.await.unwrap().tasks.len(), SUBSCRIPTIONS);
    }
    fixture.sql("UPDATE deliveries SET state = 'delivered', due = NULL");
    let mut removed = 0;
    loop {
        let slice = store.forget_events(at(NOW - 33 * DAY)).await.unwrap();
        assert!(slice <= SLICE, "{slice} at once");
        removed += slice;
        if slice == 0 {
            break;
        }
    }
    assert_eq!(removed, 3 * SUBSCRIPTIONS + 3);
    assert_eq!(store.stored_bytes(organization("a")).await.unwrap(), 0);
}

async fn many_attempts_are_forgotten_in_slices(fixture: Fixture) {
    // In PostgreSQL no partition takes them, so that there are rows to delete, too.
    delivered(&fixture, 0..2_500).await;
    let store = &fixture.store;
    let day = at(NOW - 30 * DAY).unix_day();
    let mut slices = Vec::new();
    loop {
        match store.forget_attempts(day).await.unwrap() {
            0 => break,
            slice => slices.push(slice),
        }
    }
    assert!(slices.iter().all(|slice| *slice <= SLICE), "{slices:?}");
    assert!(slices.iter().sum::<usize>() > 2_500, "{slices:?}");
    let page = store.log(newest()).await.unwrap();
    assert_eq!((page.total, page.rows.len()), (Some(0), 0));
}

async fn retention_does_not_follow_a_jump_of_the_clock(fixture: Fixture) {
    let advance = async |now| fixture.store.advance_retention(now).await.unwrap();
    let hour = DAY / 24;
    advance(at(NOW)).await;
    assert_eq!(advance(at(NOW + hour)).await.at, at(NOW + hour));
    let ahead = advance(at(NOW + 40 * DAY)).await;
    assert_eq!(ahead.at, at(NOW + hour));
    assert_eq!(ahead.lag().as_secs(), 40 * 24 * 3_600 - 3_600);
    assert_eq!(
        advance(at(NOW + 40 * DAY + hour)).await.at,
        at(NOW + 3 * hour)
    );
    let right_again = advance(at(NOW + 3 * hour)).await;
    assert!(right_again.lag().is_zero());
}

fn newest() -> LogQuery {
    LogQuery {
        organization: organization("a"),
        filter: Filter::default(),
        limit: 10,
        start: PageStart::Offset(0),
        body_bytes: Some(1_000_000),
    }
}

async fn attempts_older_than_the_retention_are_deleted_with_their_totals(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    for (id, days_ago) in [("old", 40), ("new", 0)] {
        let then = at(NOW - days_ago * DAY);
        let event = event("a", id);
        fixture.store.prepare_days(then).await.unwrap();
        let task = fixture
            .store
            .intake(&fixture.index, vec![event.clone()].into(), then)
            .await
            .unwrap()
            .tasks[0];
        let mut record = attempted(task, to, &event, NextStep::Delivered);
        record.started = then;
        fixture.record(vec![record]).await;
    }
    let sizes = ["old", "new", "pending"].map(|id| event("a", id).event.body.len() as u64);
    let stored = async || {
        let store = &fixture.store;
        store.stored_bytes(organization("a")).await.unwrap()
    };
    assert_eq!(stored().await, sizes[0] + sizes[1]);
    fixture.intake(vec![event("a", "new")]).await;
    assert_eq!(stored().await, sizes[0] + sizes[1], "it is stored once");
    // Still owed: it is kept however old it is.
    let pending = event("a", "pending");
    let old = at(NOW - 40 * DAY);
    let pending = fixture
        .store
        .intake(&fixture.index, vec![pending].into(), old)
        .await
        .unwrap()
        .tasks[0];

    let day = at(NOW - 30 * DAY).unix_day();
    while fixture.store.forget_attempts(day).await.unwrap() > 0 {}
    for removed in [2, 0] {
        // The event and its delivery, then nothing more.
        let forgotten = fixture.store.forget_events(at(NOW - 33 * DAY)).await;
        assert_eq!(forgotten.unwrap(), removed);
    }

    let kept = sizes[1] + sizes[2];
    assert_eq!(stored().await, kept);
    let full = async |bytes| fixture.store.organizations_over_quota(bytes).await.unwrap();
    assert!(full(kept).await.contains(&organization("a")));
    assert!(full(kept + 1).await.is_empty());

    let page = fixture.store.log(newest()).await.unwrap();
    assert_eq!((page.total, page.rows.len()), (Some(1), 1));
    assert_eq!(page.rows[0].attempt.event_id.as_str(), "new");
    assert_eq!(page.rows[0].attempt.created_at, now());
    assert_eq!(
        fixture
            .store
            .due_deliveries(vec![pending.delivery])
            .await
            .unwrap()
            .len(),
        1
    );
}
