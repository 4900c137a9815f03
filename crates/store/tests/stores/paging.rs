//! Lists that are longer than the window of a query.

use std::time::Duration;

use hookline_core::event_type::EventType;
use hookline_core::filter::Filter;
use hookline_core::ids::SubscriptionId;
use hookline_core::replay::{ReplayFilter, ReplayStatus};
use hookline_store::{
    AttemptStatus, DeliveryQuery, DeliveryStatus, LogQuery, PageStart, ReplayOutcome, ReplayScope,
    ReplayTarget,
};

use crate::fixture::{Fixture, NOW, at, event, on_both, organization};

on_both![
    rare_matches_are_found_window_by_window,
    a_filtered_total_is_unknown_above_100_000_deliveries_and_cursors_go_on,
];

/// Three windows, of which each has one row that matches: the oldest one of its thousands.
const ROWS: i64 = 12_000;
const EACH: i64 = 4_000;

/// How a database writes so many numbers `n`, and makes an id.
fn numbers(fixture: &Fixture, rows: i64) -> (String, &'static str) {
    match fixture.is_postgres() {
        true => (format!("generate_series(1, {rows}) AS n"), "gen_random_uuid()"),
        false => (
            format!(
                "(WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT {rows})
                  SELECT n FROM numbers)"
            ),
            "randomblob(16)",
        ),
    }
}

fn fill_deliveries(fixture: &Fixture, SubscriptionId(to): SubscriptionId, rows: i64) {
    let (numbers, id) = numbers(fixture, rows);
    let seldom = format!("n % {EACH} = 1");
    fixture.sql(&format!(
        "DELETE FROM deliveries;
         INSERT INTO deliveries (id, organization_id, subscription_id, event_key, origin, activation, generation,
             attempts, state, finished_at, exhausted_reason, created_at, partition)
         SELECT {id}, 'a', {to}, key, 'event', 0, 0, 1, CASE WHEN {seldom} THEN 'exhausted' ELSE 'delivered' END, n,
                CASE WHEN {seldom} THEN 'out_of_attempts' END, {NOW} + n, 0
           FROM {numbers} CROSS JOIN events"
    ));
}

fn fill_log(fixture: &Fixture, SubscriptionId(to): SubscriptionId, rows: i64) {
    let (numbers, id) = numbers(fixture, rows);
    let seldom = format!("n % {EACH} = 1");
    fixture.sql(&format!(
        "INSERT INTO attempts (id, delivery_id, organization_id, subscription_id, event_key, event_type, attempt,
             trigger, status, url, duration_ms, created_at)
         SELECT {id}, {id}, 'a', {to}, key,
                CASE WHEN {seldom} THEN 'workflow.started' ELSE 'workflow.failed' END, 1, 'event', 'success', '', 1,
                {NOW} + n
           FROM {numbers} CROSS JOIN events;
         INSERT INTO attempt_counts (organization_id, subscription_id, event_type, status, day, shard, count,
             last_at)
         SELECT organization_id, subscription_id, event_type, status, 1, 0, count(*), max(created_at) FROM attempts GROUP BY 1, 2, 3, 4"
    ));
}

/// When the rows that match were made, newest first.
const MATCHING: [i64; 3] = [2 * EACH + 1, EACH + 1, 1];

async fn rare_matches_are_found_window_by_window(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    fixture.intake(vec![event("a", "1")]).await;
    fill_deliveries(&fixture, to, ROWS);
    fill_log(&fixture, to, ROWS);
    let store = &fixture.store;

    let exhausted = |start, limit| DeliveryQuery {
        organization: organization("a"),
        filter: Filter {
            subscription: Some(to),
            status: Some(DeliveryStatus::Exhausted),
            ..Filter::default()
        },
        limit,
        start,
        body_bytes: None,
    };
    let failed_type = |start, limit| {
        let mut query = exhausted(start, limit);
        query.filter.event_type = Some(EventType::WorkflowFailed);
        query
    };
    let queries: [&dyn Fn(PageStart, u32) -> DeliveryQuery; 2] = [&exhausted, &failed_type];
    for query in queries {
        for (offset, limit, wanted) in [(0, 2, 0..2), (0, 9, 0..3), (1, 9, 1..3), (3, 9, 3..3)] {
            let found = store
                .deliveries(query(PageStart::Offset(offset), limit))
                .await;
            let found = found.unwrap();
            let made = found.rows.iter().map(|row| row.delivery.created_at);
            let expected = MATCHING[wanted].iter().map(|n| at(NOW + n));
            assert!(made.eq(expected), "{offset} {limit}");
            assert_eq!((found.total, found.searched), (Some(3), None));
        }
        let first = store
            .deliveries(query(PageStart::Offset(0), 1))
            .await
            .unwrap();
        let behind = PageStart::Cursor(first.rows[0].delivery.cursor());
        let rest = store.deliveries(query(behind, 9)).await.unwrap();
        assert_eq!(rest.rows.len(), 2);
    }
    let mut all = exhausted(PageStart::Offset(10_000), 1);
    all.filter.status = None;
    let far = store.deliveries(all).await.unwrap();
    assert_eq!(far.rows[0].delivery.created_at, at(NOW + ROWS - 10_000));
    assert_eq!(far.total, Some(ROWS.unsigned_abs()));

    for subscription in [None, Some(to)] {
        let started = |start, limit| LogQuery {
            organization: organization("a"),
            filter: Filter {
                subscription,
                event_type: Some(EventType::WorkflowStarted),
                status: Some(AttemptStatus::Success),
                ..Filter::default()
            },
            limit,
            start,
            body_bytes: Some(1_000),
        };
        for (offset, limit, wanted) in [(0, 2, 0..2), (1, 9, 1..3)] {
            let found = store.log(started(PageStart::Offset(offset), limit)).await;
            let found = found.unwrap();
            let made = found.rows.iter().map(|row| row.attempt.created_at);
            let expected = MATCHING[wanted].iter().map(|n| at(NOW + n));
            assert!(made.eq(expected), "{subscription:?} {offset}");
            assert_eq!((found.total, found.searched), (Some(3), None));
        }
    }

    for (event_types, count) in [(None, 3), (Some(vec![EventType::WorkflowStarted]), 0)] {
        let scope = ReplayScope {
            organization: organization("a"),
            target: ReplayTarget::Subscription(to),
            filter: ReplayFilter {
                statuses: [ReplayStatus::Exhausted].into(),
                event_types: event_types
                    .map(|types| hookline_core::event_type::EventTypes::new(types).unwrap()),
                ..ReplayFilter::default()
            },
        };
        let counted = store
            .count_replay(scope, at(NOW + ROWS + 1), Duration::from_secs(60))
            .await;
        assert_eq!(counted.unwrap(), ReplayOutcome::Deliveries(count));
    }
}

async fn a_filtered_total_is_unknown_above_100_000_deliveries_and_cursors_go_on(fixture: Fixture) {
    const MANY: i64 = 100_100;
    let to = fixture.subscribe("a").await.id;
    fixture.intake(vec![event("a", "1")]).await;
    fill_deliveries(&fixture, to, MANY);
    let query = |status, since: i64, start| DeliveryQuery {
        organization: organization("a"),
        filter: Filter {
            subscription: Some(to),
            status,
            since: Some(at(NOW + since)),
            ..Filter::default()
        },
        limit: 2,
        start,
        body_bytes: None,
    };
    let first = PageStart::Offset(0);
    let delivered = Some(DeliveryStatus::Delivered);
    let found = async |query| fixture.store.deliveries(query).await.unwrap();
    let counted = async |status, since| found(query(status, since, first)).await.total;
    assert_eq!(counted(None, 0).await, Some(MANY.unsigned_abs()));
    assert_eq!(counted(delivered, 0).await, None);
    // The count looks at no more than 100,000 of the time that is asked for.
    assert_eq!(counted(delivered, MANY - 10).await, Some(11));

    let page = found(query(delivered, 0, first)).await;
    let behind = PageStart::Cursor(page.rows[1].delivery.cursor());
    let next = found(query(delivered, 0, behind)).await;
    let made = [page.rows, next.rows].concat();
    let made: Vec<_> = made.iter().map(|row| row.delivery.created_at).collect();
    assert_eq!(made, [0, 1, 2, 3].map(|n| at(NOW + MANY - n)));
}
