use hookline_core::delivery::Trigger;
use hookline_core::filter::Filter;
use hookline_store::{AttemptStatus, LogQuery, NextStep, PageStart};

use crate::fixture::{Fixture, attempted, event, now, on_both, organization};

on_both![every_attempt_is_on_one_page_and_totals_are_exact];

async fn every_attempt_is_on_one_page_and_totals_are_exact(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let mut records = Vec::new();
    for id in 0..25 {
        let event = event("a", &id.to_string());
        let task = fixture.intake(vec![event.clone()]).await.tasks[0];
        let next_step = if id % 5 == 0 {
            NextStep::Retry { due: now() }
        } else {
            NextStep::Delivered
        };
        records.push(attempted(task, to, &event, next_step));
    }
    // All at one moment, so that pages are told apart by the ids alone.
    fixture.record(records.clone()).await;
    fixture.record(records).await;

    let query = |status, start| LogQuery {
        organization: organization("a"),
        filter: Filter {
            subscription: Some(to),
            status,
            ..Filter::default()
        },
        limit: 10,
        start,
        body_bytes: Some(1_000_000),
    };
    let mut seen = Vec::new();
    let mut start = PageStart::Offset(0);
    loop {
        let page = fixture.store.log(query(None, start)).await.unwrap();
        assert_eq!(page.total, Some(25));
        let Some(last) = page.rows.last() else { break };
        start = PageStart::Cursor(last.attempt.cursor());
        seen.extend(page.rows.iter().map(|entry| entry.attempt.id));
    }
    let by_offset: Vec<_> = [0, 10, 20].map(PageStart::Offset).to_vec();
    let mut other = Vec::new();
    for start in by_offset {
        other.extend(
            fixture
                .store
                .log(query(None, start))
                .await
                .unwrap()
                .rows
                .iter()
                .map(|entry| entry.attempt.id),
        );
    }
    assert_eq!(seen, other);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 25);

    let failed = fixture
        .store
        .log(query(Some(AttemptStatus::Failed), PageStart::Offset(0)))
        .await
        .unwrap();
    assert_eq!((failed.total, failed.rows.len()), (Some(5), 5));
    let entry = &failed.rows[0];
    let attempt = &entry.attempt;
    assert_eq!(attempt.trigger, Trigger::Event);
    assert_eq!(attempt.next_attempt_at, Some(now()));
    let body = entry.request_body.as_ref().unwrap();
    assert!(body.is_whole);
    assert!(body.text.contains(attempt.event_id.as_str()));
    assert_eq!(
        attempt.error.as_ref().map(|error| error.message.as_str()),
        Some("the receiver answered 500")
    );

    // Room for two events of the ten.
    let length = body.text.len();
    let mut small = query(None, PageStart::Offset(0));
    small.body_bytes = Some(2 * length + length / 2);
    let page = fixture.store.log(small).await.unwrap();
    let whole: Vec<bool> = page
        .rows
        .iter()
        .map(|entry| entry.request_body.as_ref().unwrap().is_whole)
        .collect();
    assert_eq!(whole, [[true; 2].as_slice(), &[false; 8]].concat());
    let cut = page.rows[9].request_body.as_ref().unwrap();
    assert!(cut.text.starts_with("{\"event_id\""));
    let mut bare = query(None, PageStart::Offset(0));
    bare.body_bytes = None;
    let page = fixture.store.log(bare).await.unwrap();
    assert!(page.rows.iter().all(|entry| entry.request_body.is_none()));
}
