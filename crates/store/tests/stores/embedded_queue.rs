//! The event queue of the standalone mode.

use hookline_core::timestamp::Timestamp;
use hookline_store::{EmbeddedQueue, FanoutIndex, NewEvents, Store, StoreError};
use tempfile::TempDir;

use crate::fixture::{NOW, at, event, now};

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

fn open() -> (EmbeddedQueue, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (_, queue) = Store::embedded(folder.path()).unwrap();
    (queue, folder)
}

#[tokio::test]
async fn requeue_uncounted_never_raises_the_number_of_takes() {
    let (queue, _folder) = open();
    queue
        .push_events(events(b"{}".to_vec()), None)
        .await
        .unwrap();
    for _ in 0..60 {
        let events = queue.take_events(10, now(), later(300)).await.unwrap();
        assert_eq!((events.len(), events[0].receive_count), (1, 1));
        let ids = events.iter().map(|taken| taken.id).collect();
        queue.requeue_events_uncounted(ids).await.unwrap();
    }
}

#[tokio::test]
async fn deferred_events_are_invisible_until_they_are_due_and_count_as_never_taken() {
    let (queue, _folder) = open();
    for body in [b"1", b"2"] {
        queue
            .push_events(events(body.to_vec()), None)
            .await
            .unwrap();
    }
    let take = async |now| queue.take_events(1, now, later(1_000)).await.unwrap();
    let first = take(now()).await;
    assert_eq!(
        (first[0].body.as_slice(), first[0].admitted_at),
        (&b"1"[..], None)
    );
    let deferred = NewEvents {
        admitted_at: Some(later(60)),
        ..events(b"1".to_vec())
    };
    let deferring = queue.defer_events(vec![first[0].id], vec![(deferred, 0)]);
    deferring.await.unwrap();
    // A restart makes no deferred event visible.
    queue.void_leases().await.unwrap();

    let second = take(now()).await;
    assert_eq!(second[0].body, b"2");
    queue.ack_events(vec![second[0].id]).await.unwrap();
    assert_eq!(queue.next_events().await.unwrap(), Some(later(60)));
    assert!(take(later(59)).await.is_empty());
    let again = take(later(60)).await;
    assert_eq!(
        (again[0].body.as_slice(), again[0].receive_count),
        (&b"1"[..], 1)
    );
    assert_eq!(again[0].admitted_at, Some(later(60).unix_micros()));
}

#[tokio::test]
async fn entries_of_an_earlier_process_come_again_at_once() {
    let (queue, folder) = open();
    queue
        .push_events(events(b"{}".to_vec()), None)
        .await
        .unwrap();
    assert_eq!(
        queue
            .take_events(10, now(), later(300))
            .await
            .unwrap()
            .len(),
        1
    );
    drop(queue);

    let (store, queue) = reopened(&folder).await;
    queue.void_leases().await.unwrap();
    let events = queue.take_events(10, now(), later(300)).await.unwrap();
    assert_eq!((events.len(), events[0].receive_count), (1, 2));
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
async fn entries_are_taken_oldest_first_acked_requeued_and_dead_lettered() {
    let (queue, _folder) = open();
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
        .dead_letter_events(taken[1].id, "bad".to_owned(), now())
        .await
        .unwrap();
    queue.requeue_events(vec![taken[2].id]).await.unwrap();
    let again = take().await;
    assert_eq!(
        again
            .iter()
            .map(|entry| (entry.body[0], entry.receive_count))
            .collect::<Vec<_>>(),
        [(b'3', 2)]
    );
}

#[tokio::test]
async fn a_take_is_bounded_in_bytes_and_a_larger_message_comes_alone() {
    let (queue, _folder) = open();
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
async fn an_entry_that_was_taken_fifty_times_is_dead_lettered() {
    let (queue, _folder) = open();
    queue
        .push_events(events(b"{}".to_vec()), None)
        .await
        .unwrap();
    for _ in 0..50 {
        assert_eq!(queue.take_events(10, now(), now()).await.unwrap().len(), 1);
    }
    assert_eq!(queue.take_events(10, now(), now()).await.unwrap().len(), 0);
    assert_eq!(queue.dead_letters().await.unwrap(), [1, 0]);
}

#[tokio::test]
async fn a_second_process_cannot_deliver_from_the_same_folder() {
    let (_queue, folder) = open();
    assert!(matches!(
        Store::embedded(folder.path()),
        Err(StoreError::Refused(_))
    ));
    let second = Store::beside_embedded(folder.path()).unwrap();
    let events = vec![event("a", "1")].into();
    assert_eq!(
        second
            .intake(&FanoutIndex::default(), events, now())
            .await
            .unwrap()
            .new_events,
        1
    );
}

#[tokio::test]
async fn an_entry_with_a_lease_is_invisible_until_the_lease_ends() {
    let (queue, _folder) = open();
    let id = queue
        .push_events(events(b"{}".to_vec()), Some(later(300)))
        .await
        .unwrap();
    for (when, found) in [(later(299), 0), (later(300), 1)] {
        let events = queue.take_events(10, when, later(900)).await.unwrap();
        assert_eq!(events.len(), found);
        assert!(
            events
                .iter()
                .all(|taken| (taken.id, taken.receive_count) == (id, 2))
        );
    }
    // The next process begins with what this one had in hand.
    queue.void_leases().await.unwrap();
    assert_eq!(
        queue
            .take_events(10, now(), later(900))
            .await
            .unwrap()
            .len(),
        1
    );
}
