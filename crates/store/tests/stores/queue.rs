//! The embedded queue, which only one of the backends has.

use hookline_core::delivery::{DeliveryState, GaveUp};
use hookline_core::timestamp::Timestamp;
use hookline_store::{EmbeddedQueue, FanoutIndex, Follow, NewEvents, Store, StoreError};
use tempfile::TempDir;

use crate::fixture::{Fixture, NOW, at, attempted, event, keys, now};

const SECOND: i64 = 1_000_000;

fn later(seconds: i64) -> Timestamp {
    at(NOW + seconds * SECOND)
}

fn events(body: Vec<u8>) -> NewEvents {
    NewEvents {
        body: body.into(),
        ..NewEvents::default()
    }
}

async fn open() -> (Fixture, EmbeddedQueue, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (store, queue) = Store::embedded(folder.path()).unwrap();
    let store = store.unlock(&keys("a")).await.unwrap();
    (Fixture::of(store), queue, folder)
}

#[tokio::test]
async fn a_delivery_waits_until_it_is_due_and_is_out_of_sight_while_somebody_has_it() {
    let (fixture, queue, _folder) = open().await;
    let to = fixture.subscribe("a").await.id;
    let owed = fixture.owed("a", "1").await;
    let take = async |now| queue.take_attempts(10, now, later(100)).await.unwrap();

    assert_eq!(take(now()).await.len(), 1);
    assert_eq!(take(later(99)).await.len(), 0, "it is leased");
    let again = take(later(100)).await;
    assert_eq!(
        (again.len(), again[0].takes),
        (1, 2),
        "the lease has run out"
    );

    let follow = Follow::Again { due: later(500) };
    fixture
        .record(vec![attempted(owed, to, &event("a", "1"), follow)])
        .await;
    assert_eq!(queue.next_due().await.unwrap(), Some(later(500)));
    assert_eq!(take(later(499)).await.len(), 0);
    let second = take(later(500)).await;
    assert_eq!((second[0].owed.attempt, second[0].takes), (2, 1));
}

#[tokio::test]
async fn what_is_put_back_untouched_counts_as_never_taken_however_often() {
    let (fixture, queue, _folder) = open().await;
    fixture.subscribe("a").await;
    fixture.owed("a", "1").await;
    queue
        .push_events(events(b"{}".to_vec()), None)
        .await
        .unwrap();
    for _ in 0..60 {
        let attempts = queue.take_attempts(10, now(), later(300)).await.unwrap();
        assert_eq!((attempts.len(), attempts[0].takes), (1, 1));
        let ids = attempts.iter().map(|taken| taken.owed.delivery).collect();
        queue.put_back_attempts(ids).await.unwrap();
        let events = queue.take_events(10, now(), later(300)).await.unwrap();
        assert_eq!((events.len(), events[0].takes), (1, 1));
        let ids = events.iter().map(|taken| taken.id).collect();
        queue.put_back_events(ids).await.unwrap();
    }
}

#[tokio::test]
async fn events_that_are_put_off_are_out_of_sight_until_their_turn_and_count_as_never_taken() {
    let (_fixture, queue, _folder) = open().await;
    for body in [b"1", b"2"] {
        queue
            .push_events(events(body.to_vec()), None)
            .await
            .unwrap();
    }
    let take = async |now| queue.take_events(1, now, later(1_000)).await.unwrap();
    let first = take(now()).await;
    assert_eq!((first[0].body.as_slice(), first[0].turn), (&b"1"[..], None));
    let coming = NewEvents {
        turn: Some(later(60)),
        ..events(b"1".to_vec())
    };
    let put_off = queue.put_off_events(vec![first[0].id], vec![(coming, 0)]);
    put_off.await.unwrap();
    // A restart lets nobody push in.
    queue.void_leases().await.unwrap();

    let second = take(now()).await;
    assert_eq!(second[0].body, b"2");
    queue.ack_events(vec![second[0].id]).await.unwrap();
    assert_eq!(queue.next_events().await.unwrap(), Some(later(60)));
    assert!(take(later(59)).await.is_empty());
    let again = take(later(60)).await;
    assert_eq!((again[0].body.as_slice(), again[0].takes), (&b"1"[..], 1));
    assert_eq!(again[0].turn, Some(later(60).unix_micros()));
}

#[tokio::test]
async fn what_an_earlier_process_had_in_hand_comes_again_at_once() {
    let (fixture, queue, folder) = open().await;
    fixture.subscribe("a").await;
    fixture.owed("a", "1").await;
    queue
        .push_events(events(b"{}".to_vec()), None)
        .await
        .unwrap();
    assert_eq!(
        queue
            .take_attempts(10, now(), later(300))
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        queue
            .take_events(10, now(), later(300))
            .await
            .unwrap()
            .len(),
        1
    );
    drop((fixture, queue));

    let (store, queue) = reopened(&folder).await;
    queue.void_leases().await.unwrap();
    let attempts = queue.take_attempts(10, now(), later(300)).await.unwrap();
    let events = queue.take_events(10, now(), later(300)).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].takes), (1, 2));
    assert_eq!((events.len(), events[0].takes), (1, 2));
    drop(store);
}

/// The writer's thread ends a moment after its last owner.
async fn reopened(folder: &TempDir) -> (Store, EmbeddedQueue) {
    loop {
        match Store::embedded(folder.path()) {
            Ok(opened) => return opened,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn events_are_taken_oldest_first_acked_released_and_buried() {
    let (_fixture, queue, _folder) = open().await;
    for body in [b"1", b"2", b"3"] {
        queue
            .push_events(events(body.to_vec()), None)
            .await
            .unwrap();
    }
    let take = async || queue.take_events(10, now(), later(300)).await.unwrap();
    let taken = take().await;
    assert_eq!(
        taken.iter().map(|entry| entry.body[0]).collect::<Vec<_>>(),
        b"123"
    );
    queue.ack_events(vec![taken[0].id]).await.unwrap();
    queue
        .bury_events(taken[1].id, "bad".to_owned(), now())
        .await
        .unwrap();
    queue.release_events(vec![taken[2].id]).await.unwrap();
    let again = take().await;
    assert_eq!(
        again
            .iter()
            .map(|entry| (entry.body[0], entry.takes))
            .collect::<Vec<_>>(),
        [(b'3', 2)]
    );
}

#[tokio::test]
async fn a_take_is_bounded_in_bytes_and_a_larger_message_comes_alone() {
    let (_fixture, queue, _folder) = open().await;
    for mebibytes in [9, 9, 1, 20] {
        queue
            .push_events(events(vec![b' '; mebibytes * 1024 * 1024]), None)
            .await
            .unwrap();
    }
    let take = async || {
        let taken = queue.take_events(10, now(), later(300)).await.unwrap();
        taken
            .iter()
            .map(|entry| entry.body.len() / 1024 / 1024)
            .collect::<Vec<_>>()
    };
    assert_eq!(take().await, [9]);
    assert_eq!(take().await, [9, 1]);
    assert_eq!(take().await, [20]);
}

#[tokio::test]
async fn what_is_taken_fifty_times_and_never_dealt_with_is_buried() {
    let (fixture, queue, _folder) = open().await;
    fixture.subscribe("a").await;
    let owed = fixture.owed("a", "1").await;
    queue
        .push_events(events(b"{}".to_vec()), None)
        .await
        .unwrap();
    for _ in 0..50 {
        assert_eq!(
            queue.take_attempts(10, now(), now()).await.unwrap().len(),
            1
        );
        assert_eq!(queue.take_events(10, now(), now()).await.unwrap().len(), 1);
    }
    assert_eq!(
        queue.take_attempts(10, now(), now()).await.unwrap().len(),
        0
    );
    assert_eq!(queue.take_events(10, now(), now()).await.unwrap().len(), 0);
    let loaded = fixture.store.owed(vec![owed.delivery]).await.unwrap();
    let state = loaded[&owed.delivery].state;
    assert_eq!(
        state,
        DeliveryState::Exhausted {
            at: now(),
            why: GaveUp::Poison
        }
    );
}

#[tokio::test]
async fn a_second_process_cannot_deliver_from_the_same_folder() {
    let (_fixture, _queue, folder) = open().await;
    assert!(matches!(
        Store::embedded(folder.path()),
        Err(StoreError::Refused(_))
    ));
    let beside = Store::beside_embedded(folder.path()).unwrap();
    let events = vec![event("a", "1")].into();
    assert_eq!(
        beside
            .take_in(&FanoutIndex::default(), events, now())
            .await
            .unwrap()
            .new_events,
        1
    );
}

#[tokio::test]
async fn what_is_parked_a_hundred_times_is_not_buried() {
    let (fixture, queue, _folder) = open().await;
    let to = fixture.subscribe("a").await.id;
    let owed = fixture.owed("a", "1").await;
    for second in 0..100 {
        let taken = queue
            .take_attempts(10, later(second), later(1_000))
            .await
            .unwrap();
        assert_eq!((taken.len(), taken[0].takes), (1, 1));
        assert_eq!(taken[0].owed.subscription, to);
        fixture.park([owed.delivery], later(second + 1)).await;
        assert_eq!(queue.next_due().await.unwrap(), Some(later(second + 1)));
    }
}

#[tokio::test]
async fn what_is_written_as_taken_is_out_of_sight_until_its_lease_is_over() {
    let (_, queue, folder) = open().await;
    drop(queue);
    let (store, queue) = Store::embedded(folder.path()).unwrap();
    let store = store.handing_on().unlock(&keys("a")).await.unwrap();
    let fixture = Fixture::of(store);
    fixture.subscribe("a").await;
    let owed = fixture.owed("a", "1").await;
    let id = queue
        .push_events(events(b"{}".to_vec()), Some(later(300)))
        .await
        .unwrap();
    for (when, found) in [(later(299), 0), (later(300), 1)] {
        let attempts = queue.take_attempts(10, when, later(900)).await.unwrap();
        assert_eq!(attempts.len(), found);
        assert!(
            attempts
                .iter()
                .all(|taken| (taken.owed, taken.takes) == (owed, 2))
        );
        let events = queue.take_events(10, when, later(900)).await.unwrap();
        assert_eq!(events.len(), found);
        assert!(
            events
                .iter()
                .all(|taken| (taken.id, taken.takes) == (id, 2))
        );
    }
    // The next process begins with what this one had in hand.
    queue.void_leases().await.unwrap();
    assert_eq!(
        queue
            .take_attempts(10, now(), later(900))
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        queue
            .take_events(10, now(), later(900))
            .await
            .unwrap()
            .len(),
        1
    );
}
