use std::collections::HashSet;

use hookline_core::partition::Partitions;
use hookline_store::PartitionOwner;
use uuid::Uuid;

use super::*;
use crate::ownership::InFlightByPartition as _;

const NOW: i64 = 1_766_313_000_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros(NOW + seconds * 1_000_000)
}

fn task(number: u128, attempt: u32, subscription: i64) -> AttemptTask {
    AttemptTask {
        delivery: DeliveryId(Uuid::from_u128(number)),
        generation: 0,
        attempt,
        subscription: SubscriptionId(subscription),
    }
}

fn holding(partition: u16, deaths: u32) -> PartitionOwner {
    PartitionOwner {
        partition: Partition(partition),
        owner: None,
        epoch: 7,
        deaths,
        note: String::new(),
    }
}

/// The due rows of a dispatcher that owns partitions 0 and 1 of four and has looked at both.
fn rows() -> DueRows {
    let partitions = Partitions::new(4).unwrap();
    let holdings = [holding(0, 0), holding(1, 2)];
    let rows = DueRows::new(
        Arc::default(),
        OwnedPartitions::all(&holdings, partitions, at(0)),
    );
    for partition in [0, 1] {
        rows.state().looked_up.insert(Partition(partition), 7);
    }
    rows
}

fn row(number: u128, subscription: i64, due: Timestamp) -> DueAttempt {
    let task = task(number, 1, subscription);
    let partition = Partitions::new(4).unwrap().of(task.subscription);
    DueAttempt {
        task,
        partition,
        due,
    }
}

fn attempts(taken: &[InHand]) -> Vec<(u128, u32)> {
    let named = |one: &InHand| (one.task.delivery.0.as_u128(), one.task.attempt);
    taken.iter().map(named).collect()
}

#[test]
fn a_delivery_waits_or_is_in_hand_once() {
    let rows = rows();
    rows.wake(vec![task(1, 1, 4), task(1, 1, 4)]);
    let in_hand = rows.take_now(9);
    assert_eq!(attempts(&in_hand), [(1, 1)]);
    rows.wake(vec![task(1, 1, 4)]);
    rows.add_looked_up(&[row(1, 4, at(0))]);
    assert!(rows.take_now(9).is_empty());
    drop(in_hand);
    assert!(rows.take_now(9).is_empty());
    assert!(rows.state().entries.is_empty() && rows.state().of_partition.is_empty());
}

#[test]
fn a_wake_up_for_the_next_attempt_waits_until_the_delivery_is_released() {
    let rows = rows();
    rows.wake(vec![task(1, 1, 4)]);
    let in_hand = rows.take_now(9);
    rows.wake(vec![task(1, 2, 4)]);
    assert!(rows.take_now(9).is_empty());
    drop(in_hand);
    assert_eq!(attempts(&rows.take_now(9)), [(1, 2)]);
}

#[test]
fn a_delivery_that_is_released_during_a_look_is_skipped_in_its_result() {
    let rows = rows();
    rows.wake(vec![task(1, 1, 4)]);
    let in_hand = rows.take_now(9);
    rows.state().released = Some(HashSet::new());
    drop(in_hand);
    rows.add_looked_up(&[row(1, 4, at(0)), row(2, 4, at(0))]);
    assert_eq!(attempts(&rows.take_now(9)), [(2, 1)]);
}

#[test]
fn a_delivery_that_waits_again_is_taken_again() {
    let rows = rows();
    rows.wake(vec![task(1, 1, 4)]);
    for in_hand in rows.take_now(9) {
        in_hand.wait_again();
    }
    assert_eq!(attempts(&rows.take_now(9)), [(1, 1)]);
}

#[test]
fn wake_ups_of_other_partitions_and_before_the_first_look_are_dropped() {
    let rows = rows();
    rows.state().looked_up.remove(&Partition(0));
    rows.wake(vec![task(1, 1, 4), task(2, 1, 2), task(3, 1, 5)]);
    assert_eq!(attempts(&rows.take_now(9)), [(3, 1)]);
}

#[test]
fn rows_that_were_due_at_a_takeover_from_dead_owners_are_suspects() {
    let rows = rows();
    let found = [row(1, 1, at(-1)), row(2, 5, at(1)), row(3, 4, at(-1))];
    rows.add_looked_up(&found);
    let mut taken: Vec<_> = rows
        .take_now(9)
        .iter()
        .map(|one| (one.task.delivery.0.as_u128(), one.is_suspect))
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, [(1, true), (2, false), (3, false)]);
}

#[test]
fn requests_in_flight_are_listed_by_partition() {
    let rows = rows();
    rows.wake(vec![task(1, 1, 4), task(2, 1, 8), task(3, 1, 5)]);
    let in_hand = rows.take_now(9);
    for one in &in_hand {
        if one.task.delivery.0.as_u128() != 2 {
            one.begin_request(at(30));
        }
    }
    let known = &rows.shared.known;
    assert_eq!(known.of(Partition(0)), [(SubscriptionId(4), at(30))]);
    assert_eq!(known.of(Partition(1)), [(SubscriptionId(5), at(30))]);
    drop(in_hand);
    assert!(known.of(Partition(0)).is_empty());
}
