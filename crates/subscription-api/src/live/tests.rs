use std::sync::Arc;

use hookline_core::filter::{Filter, ResponseCodes};
use hookline_core::ids::{OrganizationId, SubscriptionId};
use hookline_core::timestamp::Timestamp;
use hookline_store::{
    AttemptStatus, LogPlace, LogSnapshot, SubscriptionChangeKind, SubscriptionEvent, TailEntry,
    TailRow,
};

use super::matching::matches;
use super::ring::{LiveRow, Ring, RingRead};

fn row(number: i64) -> TailRow {
    TailRow {
        organization: OrganizationId::parse("a").unwrap(),
        place: LogPlace::before(number),
        entry: TailEntry::Subscription(SubscriptionEvent {
            subscription: SubscriptionId(7),
            change: SubscriptionChangeKind::Changed,
            disabled_reason: None,
            at: Timestamp::from_unix_micros(number),
        }),
    }
}

fn push(ring: &mut Ring, numbers: std::ops::Range<i64>, room: usize) {
    for number in numbers {
        let row = LiveRow::new(row(number), &LogSnapshot::default());
        ring.push(Arc::new(row), room);
    }
}

/// The numbers of the rows of a read.
fn read(ring: &Ring, next: u64) -> Option<Vec<i64>> {
    match ring.read(next, None) {
        RingRead::Rows(rows) => Some(rows.iter().map(|row| row.row.place.recorded_in).collect()),
        RingRead::End(_) => Some(Vec::new()),
        RingRead::Behind => None,
    }
}

#[test]
fn a_reader_is_behind_where_the_ring_has_dropped_its_row() {
    let mut ring = Ring::default();
    push(&mut ring, 0..3, usize::MAX);
    assert_eq!(read(&ring, 1), Some(vec![1, 2]));
    assert_eq!(read(&ring, 3), Some(vec![]));
    push(&mut ring, 3..2_000, usize::MAX);
    assert_eq!(read(&ring, 3), None);
    assert_eq!(ring.end(), 2_000);
    let newest = read(&ring, 1_999);
    assert_eq!(newest, Some(vec![1_999]));
}

#[test]
fn a_ring_has_room_for_its_newest_row_whatever_its_size() {
    let mut ring = Ring::default();
    push(&mut ring, 0..5, 1);
    assert_eq!(read(&ring, 3), None);
    assert_eq!(read(&ring, 4), Some(vec![4]));
}

#[test]
fn a_read_has_a_limited_size() {
    let mut ring = Ring::default();
    push(&mut ring, 0..500, usize::MAX);
    let first = read(&ring, 0).unwrap().len();
    assert!((1..=64).contains(&first), "{first}");
}

#[test]
fn a_reader_begins_when_the_ring_is_read_and_wakes_with_news() {
    let mut ring = Ring::default();
    let mut news = ring.news.subscribe();
    push(&mut ring, 0..1, usize::MAX);
    ring.tell();
    assert_eq!(
        *news.borrow_and_update(),
        None,
        "its rows may be incomplete"
    );
    ring.begin_read();
    assert_eq!(*news.borrow_and_update(), Some(1));
    ring.begin_read();
    ring.tell();
    assert!(!news.has_changed().unwrap());
    push(&mut ring, 1..2, usize::MAX);
    ring.tell();
    assert_eq!(*news.borrow_and_update(), Some(2));
}

#[test]
fn a_change_of_a_subscription_has_no_attempt() {
    let none = Filter::<AttemptStatus>::default;
    let entry = row(10).entry;
    let at = Timestamp::from_unix_micros;
    let selecting = [
        none(),
        Filter {
            since: Some(at(10)),
            ..none()
        },
        Filter {
            until: Some(at(11)),
            ..none()
        },
        Filter {
            subscription: Some(SubscriptionId(7)),
            ..none()
        },
    ];
    assert!(selecting.iter().all(|filter| matches(filter, &entry)));
    let others = [
        Filter {
            since: Some(at(11)),
            ..none()
        },
        Filter {
            until: Some(at(10)),
            ..none()
        },
        Filter {
            subscription: Some(SubscriptionId(8)),
            ..none()
        },
        Filter {
            status: Some(AttemptStatus::Failed),
            ..none()
        },
        Filter {
            response_status: ResponseCodes::parse("5xx").ok(),
            ..none()
        },
        Filter {
            attempt: Some(1),
            ..none()
        },
    ];
    assert!(!others.iter().any(|filter| matches(filter, &entry)));
}
