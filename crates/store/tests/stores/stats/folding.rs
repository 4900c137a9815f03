//! Minutes become hours, and go with the log.

use super::*;

on_both![
    folding_changes_no_sum,
    folding_while_writers_write_loses_nothing,
    an_attempt_before_a_fold_that_is_recorded_after_it_is_counted,
    counts_are_deleted_with_the_log,
];

fn rows(fixture: &Fixture, width: i64) -> i64 {
    fixture.number(&format!(
        "SELECT count(*) FROM attempt_stats WHERE width = {width}"
    ))
}

async fn fold_all(store: &Store, cutoff: Timestamp) {
    while store.fold_stats(cutoff).await.unwrap() > 0 {}
}

async fn folding_changes_no_sum(fixture: Fixture) {
    fixture.record(records(&fixture, 90).await).await;
    let hours = StatsQuery {
        since: at(NOW - NOW % HOUR),
        until: at(NOW - NOW % HOUR + 3 * HOUR),
        step: StatsStep::Hour,
        ..query(Some(StatsGroupBy::Outcome))
    };
    let before = series(&fixture, hours.clone()).await;
    // The hour has not ended.
    fold_all(&fixture.store, at(NOW - NOW % HOUR + HOUR - 1)).await;
    assert_eq!(rows(&fixture, 3_600), 0);
    fold_all(&fixture.store, at(NOW + 2 * HOUR)).await;
    assert_eq!(rows(&fixture, 60), 0);
    assert!(rows(&fixture, 3_600) > 0);
    assert_eq!(series(&fixture, hours).await, before);
}

async fn folding_while_writers_write_loses_nothing(fixture: Fixture) {
    let records = records(&fixture, 400).await;
    let store = fixture.store.clone();
    let folding = tokio::spawn(async move {
        loop {
            // A fold may lose a deadlock against a writer. Retention tries again, too.
            let _ = store.fold_stats(at(NOW + DAY)).await;
            tokio::task::yield_now().await;
        }
    });
    let mut writers = tokio::task::JoinSet::new();
    for half in records.chunks(200) {
        let (store, half) = (fixture.store.clone(), half.to_vec());
        writers.spawn(async move {
            for some in half.chunks(7) {
                while store.record(Arc::from(some)).await.is_err() {}
            }
        });
    }
    writers.join_all().await;
    folding.abort();
    let _ = folding.await;
    assert_eq!(total(&fixture).await.attempts, 400);
    fold_all(&fixture.store, at(NOW + DAY)).await;
    assert_eq!(total(&fixture).await.attempts, 400);
    assert_eq!(rows(&fixture, 60), 0);
}

async fn an_attempt_before_a_fold_that_is_recorded_after_it_is_counted(fixture: Fixture) {
    let mut records = records(&fixture, 20).await;
    // The clock was set back by two days, or the database was away.
    for record in &mut records[10..] {
        record.started = at(NOW - 2 * DAY);
    }
    let late = records.split_off(10);
    fixture.record(records).await;
    fold_all(&fixture.store, at(NOW + DAY)).await;
    fixture.record(late).await;
    assert_eq!(total(&fixture).await.attempts, 20);
    fold_all(&fixture.store, at(NOW + DAY)).await;
    assert_eq!(total(&fixture).await.attempts, 20);
    assert_eq!(rows(&fixture, 60), 0);
}

async fn counts_are_deleted_with_the_log(fixture: Fixture) {
    let mut records = records(&fixture, 20).await;
    for record in &mut records[..10] {
        record.started = at(NOW - 40 * DAY);
    }
    fixture.record(records).await;
    fold_all(&fixture.store, at(NOW - DAY)).await;
    let day = at(NOW - 30 * DAY).unix_day();
    while fixture.store.forget_attempts(day).await.unwrap() > 0 {}
    assert_eq!(total(&fixture).await.attempts, in_log(&fixture, "true").0);
    assert_eq!(total(&fixture).await.attempts, 10);
}
