//! What the reconciler asks, of the backend that has one.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hookline_core::delivery::{DeliveryState, GaveUp};
use hookline_core::ids::DeliveryId;
use hookline_store::{Follow, Sweep, Swept};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, at, attempted, event, now};

const GRACE: i64 = 60;

async fn swept(fixture: &Fixture, seconds: i64) -> usize {
    let sweep = Sweep {
        grace: Duration::from_secs(GRACE.unsigned_abs()),
        limit: 500,
    };
    fixture
        .store
        .sweep(sweep, at(NOW + seconds * 1_000_000))
        .await
        .unwrap()
        .again
        .len()
}

#[tokio::test]
async fn an_overdue_attempt_is_handed_on_again_after_twice_as_long_each_time() {
    let fixture = Fixture::postgres().await;
    let to = fixture.subscribe("a").await.id;
    let owed = fixture.owed("a", "1").await;
    assert_eq!(swept(&fixture, GRACE - 1).await, 0);
    assert_eq!(swept(&fixture, GRACE).await, 1);
    assert_eq!(swept(&fixture, 3 * GRACE - 1).await, 0);
    assert_eq!(swept(&fixture, 3 * GRACE).await, 1);
    assert_eq!(swept(&fixture, 7 * GRACE - 1).await, 0);
    assert_eq!(swept(&fixture, 7 * GRACE).await, 1);

    let due = at(NOW + 1_000 * 1_000_000);
    fixture
        .record(vec![attempted(
            owed,
            to,
            &event("a", "1"),
            Follow::Again { due },
        )])
        .await;
    assert_eq!(
        swept(&fixture, 1_000 + GRACE - 1).await,
        0,
        "the next attempt counts afresh"
    );
    assert_eq!(swept(&fixture, 1_000 + GRACE).await, 1);
    let next = hookline_core::delivery::OwedAttempt { attempt: 2, ..owed };
    fixture
        .record(vec![attempted(
            next,
            to,
            &event("a", "1"),
            Follow::Delivered,
        )])
        .await;
    assert_eq!(
        swept(&fixture, 1_000_000).await,
        0,
        "a finished delivery is never overdue"
    );
}

const MINUTE: i64 = 60;

#[tokio::test]
async fn what_nothing_ever_comes_of_is_given_up_as_poison() {
    let fixture = Fixture::postgres().await;
    fixture.subscribe("a").await;
    let owed = fixture.owed("a", "1").await;
    // The waits double up to 256 minutes.
    for minute in [1, 3, 7, 15, 31, 63, 127, 255, 511, 767] {
        assert_eq!(swept(&fixture, minute * MINUTE - 1).await, 0);
        assert_eq!(swept(&fixture, minute * MINUTE).await, 1);
    }
    let state =
        async || fixture.store.owed(vec![owed.delivery]).await.unwrap()[&owed.delivery].state;
    assert_eq!(state().await, DeliveryState::Pending { due: now() });
    let end = at(NOW + 1_023 * MINUTE * 1_000_000);
    let sweep = Sweep {
        grace: Duration::from_secs(GRACE.unsigned_abs()),
        limit: 500,
    };
    let swept = fixture.store.sweep(sweep, end).await.unwrap();
    assert_eq!(swept.again, []);
    assert_eq!(swept.given_up, [owed.delivery]);
    let poison = DeliveryState::Exhausted {
        at: end,
        why: GaveUp::Poison,
    };
    assert_eq!(state().await, poison);
    let later = at(NOW + 10_000 * MINUTE * 1_000_000);
    assert_eq!(
        fixture.store.sweep(sweep, later).await.unwrap(),
        Swept::default()
    );
}

#[tokio::test]
async fn what_is_put_off_again_and_again_is_never_given_up() {
    let fixture = Fixture::postgres().await;
    fixture.subscribe("a").await;
    let owed = fixture.owed("a", "1").await;
    let mut handed_on = 0;
    // For a day, each time for a minute, and it comes six minutes late.
    for minute in 1..24 * 60 {
        handed_on += swept(&fixture, minute * MINUTE).await;
        if minute % 7 == 0 {
            let until = at(NOW + (minute + 1) * MINUTE * 1_000_000);
            fixture.park([owed.delivery], until).await;
        }
    }
    let loaded = fixture.store.owed(vec![owed.delivery]).await.unwrap();
    let state = loaded[&owed.delivery].state;
    assert!(matches!(state, DeliveryState::Pending { .. }));
    // Five times in the first half hour, then about every 64 minutes, instead of at every delay.
    assert!((8..=28).contains(&handed_on), "{handed_on}");
}

/// The lock that a sweep takes, in another session that has stopped in the middle of its own.
#[tokio::test]
async fn a_sweeper_that_freezes_blocks_nobody_and_the_others_only_until_its_session_ends() {
    let fixture = Fixture::postgres().await;
    fixture.subscribe("a").await;
    fixture.owed("a", "1").await;
    let mut frozen = Command::new("psql")
        .args([fixture.url(), "-Xqtc"])
        .arg(
            "BEGIN; SELECT pg_try_advisory_xact_lock(x'686f6f6b73776570'::bigint);
             SET LOCAL statement_timeout = '3s'; SELECT pg_sleep(60)",
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Other tests have advisory locks, too, in databases of their own.
    let locks = "DO $$ BEGIN WHILE NOT EXISTS (
                     SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
                      WHERE locktype = 'advisory' AND datname = current_database()) LOOP
                 PERFORM pg_stat_clear_snapshot(); END LOOP; END $$";
    fixture.sql(locks);
    let before = Instant::now();
    assert_eq!(swept(&fixture, GRACE).await, 0);
    assert!(before.elapsed() < Duration::from_secs(2), "it waited");
    while swept(&fixture, GRACE).await == 0 {
        assert!(before.elapsed() < Duration::from_secs(30));
        tokio::task::yield_now().await;
    }
    frozen.wait().unwrap();
}

const BACKLOG: u128 = 100_000;

/// Deliveries up to this number are put off again and again, and always come late.
const PARKED: u128 = 1_000;

/// Every message is lost: the worst that can be, for the reconciler does not rest as it does while
/// dispatchers have enough before them. Two dispatchers sweep at once.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_sweeps_over_100_000_deliveries_hands_each_on_a_bounded_number_of_times() {
    let fixture = Fixture::postgres().await;
    fixture.sql(&format!(
        "ALTER TABLE deliveries SET UNLOGGED;
         INSERT INTO deliveries (id, organization_id, subscription_id, event_key, origin, activation,
                                 generation, attempts, state, due, created_at, partition)
         SELECT lpad(to_hex(i), 32, '0')::uuid, 'a', 1, lpad(to_hex(i), 32, '0')::uuid, 'event', 0,
                0, 0, 'pending', {NOW}, {NOW}, 1
           FROM generate_series(1, {BACKLOG}) i"
    ));
    let parked: Vec<DeliveryId> = (1..=PARKED)
        .map(|number| DeliveryId(Uuid::from_u128(number)))
        .collect();
    let mut times: HashMap<DeliveryId, u32> = HashMap::new();
    let mut sweeps = 0;
    for turn in 0..=240 {
        let now = at(NOW + turn * 15 * 1_000_000);
        if turn % 10 == 0 {
            let until = at(NOW + (turn * 15 + MINUTE) * 1_000_000);
            fixture.park(parked.iter().copied(), until).await;
        }
        loop {
            let sweep = Sweep {
                grace: Duration::from_secs(GRACE.unsigned_abs()),
                limit: 5_000,
            };
            let store = &fixture.store;
            let (one, other) = tokio::join!(store.sweep(sweep, now), store.sweep(sweep, now));
            let swept = [one.unwrap(), other.unwrap()];
            assert!(swept.iter().all(|swept| swept.given_up.is_empty()));
            let again: Vec<_> = swept.into_iter().flat_map(|swept| swept.again).collect();
            sweeps += 1;
            if again.is_empty() {
                break;
            }
            for owed in again {
                *times.entry(owed.delivery).or_default() += 1;
            }
        }
    }
    let most = |of: &dyn Fn(&DeliveryId) -> bool| {
        let those = times.iter().filter(|(id, _)| of(id));
        those.map(|(_, times)| *times).max().unwrap_or_default()
    };
    let is_parked = |id: &DeliveryId| id.0.as_u128() <= PARKED;
    let (lost, late) = (most(&|id| !is_parked(id)), most(&is_parked));
    let total: u32 = times.values().sum();
    // Not by a macro, whose output is kept back: this figure is to be seen.
    let figure = format!(
        "reconciler: owed={BACKLOG} (parked={PARKED}) sweeps={sweeps} in an hour, handed on: \
         at most {lost} times each (parked: {late}), total={total}\n"
    );
    std::io::stderr().write_all(figure.as_bytes()).unwrap();
    assert_eq!(times.len(), 100_000);
    // At 1, 3, 7, 15 and 31 minutes.
    assert_eq!(lost, 5);
    assert!(late <= 5, "{late}");
}
