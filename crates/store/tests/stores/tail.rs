//! The tail of the log, which streams follow.

use std::sync::Arc;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};
use hookline_core::delivery::DeliveryState;
use hookline_core::subscription::{SubscriptionName, SubscriptionPatch, SubscriptionStatus};
use hookline_store::{
    DeliveryStatus, LogPlace, LogSnapshot, NextStep, Store, TailEntry, TailRow, TailSpan,
};
use uuid::Uuid;

use crate::fixture::{DAY, Fixture, NOW, at, attempted, event, now, on_both, organization};

on_both![
    the_rows_after_a_place_are_read_once,
    changes_of_subscriptions_and_ends_without_an_attempt_are_in_the_tail,
    what_retention_removes_is_told_to_earlier_places,
];

/// Records a delivered attempt for each event.
async fn record(fixture: &Fixture, owner: &str, ids: &[&str]) {
    let to = fixture.subscribe(owner).await.id;
    for id in ids {
        let event = event(owner, id);
        let tasks = fixture.intake(vec![event.clone()]).await.tasks;
        let task = tasks.iter().find(|task| task.subscription == to).unwrap();
        fixture
            .record(vec![attempted(*task, to, &event, NextStep::Delivered)])
            .await;
    }
}

async fn snapshot(store: &Store) -> Arc<LogSnapshot> {
    Arc::new(store.log_snapshot().await.unwrap())
}

/// All rows of a span, in pages.
async fn read(store: &Store, owner: &str, mut span: TailSpan) -> Vec<TailRow> {
    let owners: Arc<[_]> = Arc::from([organization(owner)]);
    let mut rows = Vec::new();
    loop {
        let page = store
            .tail(Arc::clone(&owners), span.clone(), 2)
            .await
            .unwrap();
        assert!(page.rows.len() <= 2);
        rows.extend(page.rows);
        match page.end {
            Some(end) => span = span.rest_after(end),
            None => return rows,
        }
    }
}

/// The ids of events of the attempts.
fn events(rows: &[TailRow]) -> Vec<String> {
    let event = |row: &TailRow| match &row.entry {
        TailEntry::Attempt { attempt, .. } => Some(attempt.event_id.as_str().to_owned()),
        _ => None,
    };
    rows.iter().filter_map(event).collect()
}

async fn the_rows_after_a_place_are_read_once(fixture: Fixture) {
    let store = &fixture.store;
    let start = snapshot(store).await;
    record(&fixture, "a", &["1", "2", "3", "4", "5"]).await;
    let middle = snapshot(store).await;
    record(&fixture, "b", &["other"]).await;
    record(&fixture, "a", &["6"]).await;
    let end = snapshot(store).await;

    let first = read(store, "a", middle.since(&start)).await;
    assert_eq!(events(&first), ["1", "2", "3", "4", "5"]);
    assert_eq!(events(&read(store, "a", end.since(&middle)).await), ["6"]);
    assert!(end.since(&end).is_empty());
    let places: Vec<LogPlace> = first.iter().map(|row| row.place).collect();
    assert!(places.is_sorted());
    for (number, row) in first.iter().enumerate() {
        assert!(middle.sees(row.place.recorded_in) && !start.sees(row.place.recorded_in));
        let rest = read(store, "a", middle.after(row.place)).await;
        assert_eq!(rest, first[number + 1..]);
        let TailEntry::Attempt { attempt, workflow } = &row.entry else {
            continue;
        };
        assert_eq!(workflow.as_ref().map(|id| id.as_str()), Some("w"));
        assert_eq!(attempt.response_status, Some(200));
        assert_eq!(attempt.response_body, None, "no bodies are read");
    }
}

async fn changes_of_subscriptions_and_ends_without_an_attempt_are_in_the_tail(fixture: Fixture) {
    let store = &fixture.store;
    let start = snapshot(store).await;
    let id = fixture.subscribe("a").await.id;
    let task = fixture.task("a", "e").await;
    for status in [
        None,
        Some(SubscriptionStatus::Inactive(None)),
        Some(SubscriptionStatus::Active),
    ] {
        let patch = SubscriptionPatch {
            name: status
                .is_none()
                .then(|| SubscriptionName::parse("m").unwrap()),
            status,
            ..SubscriptionPatch::default()
        };
        let changed = store.change_subscription(organization("a"), id, patch, now());
        assert!(changed.await.unwrap().is_some());
    }
    let skipped = DeliveryState::Skipped { at: at(NOW + 1) };
    store.end(vec![task], skipped).await.unwrap();
    assert!(
        store
            .delete_subscription(organization("a"), id, now())
            .await
            .unwrap()
    );

    let end = snapshot(store).await;
    let rows = read(store, "a", end.since(&start)).await;
    let seen = rows.iter().map(|row| match &row.entry {
        TailEntry::Subscription(event) => {
            assert_eq!(event.subscription, id);
            event.change.as_str().to_owned()
        }
        TailEntry::DeliveryEnd(ended) => {
            assert_eq!((ended.delivery, ended.subscription), (task.delivery, id));
            assert_eq!((ended.event.as_str(), ended.at), ("e", at(NOW + 1)));
            assert_eq!((ended.status, ended.attempts), (DeliveryStatus::Skipped, 0));
            "end".to_owned()
        }
        TailEntry::Attempt { .. } => "attempt".to_owned(),
    });
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [
            "created", "changed", "disabled", "changed", "end", "deleted"
        ]
    );
}

async fn what_retention_removes_is_told_to_earlier_places(fixture: Fixture) {
    let store = &fixture.store;
    let begin = LogPlace::before(0);
    record(&fixture, "a", &["1", "2", "3"]).await;
    record(&fixture, "b", &["other"]).await;
    let all = snapshot(store).await;
    let rows = read(store, "a", all.after(begin)).await;
    let day = at(NOW + DAY).unix_day();
    let told = async |owner, place| {
        store
            .removed_after(organization(owner), place)
            .await
            .unwrap()
    };
    assert_eq!(told("a", begin).await, None);
    while store.note_removals(day).await.unwrap() > 0 {}
    while store.forget_changes(day).await.unwrap() > 0 {}
    while store.forget_attempts(day).await.unwrap() > 0 {}

    // Three attempts, and the change that created the subscription.
    let removed = told("a", begin).await.unwrap();
    assert_eq!((rows.len(), removed.count), (4, 4));
    let last = rows.last().unwrap().place;
    assert_eq!(removed.last, last);
    assert_eq!(told("a", last).await, None);
    assert!(told("a", rows[2].place).await.is_some());
    assert_eq!(told("c", begin).await, None);
    assert!(read(store, "a", all.after(begin)).await.is_empty());
    while store.forget_changes(day + 500).await.unwrap() > 0 {}
    assert_eq!(told("a", begin).await, None, "removals are forgotten, too");
}

#[tokio::test]
async fn a_row_whose_transaction_commits_late_is_in_the_tail() {
    let fixture = Fixture::postgres().await;
    let store = &fixture.store;
    record(&fixture, "a", &["1"]).await;
    let start = snapshot(store).await;
    let mut late = PgConnection::establish(fixture.url()).unwrap();
    let columns = "delivery_id, organization_id, subscription_id, event_key, event_type, attempt, trigger, status, url, \
                   duration_ms, created_at";
    let id = Uuid::new_v4();
    late.batch_execute(&format!(
        "BEGIN; INSERT INTO attempts (id, {columns}) SELECT '{id}', {columns} FROM attempts LIMIT 1"
    ))
    .unwrap();
    record(&fixture, "a", &["2", "3"]).await;
    let during = snapshot(store).await;
    let rows = read(store, "a", during.since(&start)).await;
    assert_eq!(events(&rows), ["2", "3"]);
    let safe = during.safe(rows.last().unwrap().place);
    assert!(safe < rows[0].place, "the late row is before them");
    late.batch_execute("COMMIT").unwrap();
    record(&fixture, "a", &["4"]).await;

    let end = snapshot(store).await;
    let rows = read(store, "a", end.since(&during)).await;
    assert_eq!(events(&rows), ["1", "4"]);
    assert_eq!(rows[0].place.id, id);
    let again = read(store, "a", end.after(safe)).await;
    assert_eq!(
        events(&again),
        ["1", "2", "3", "4"],
        "a reader that comes back"
    );
}
