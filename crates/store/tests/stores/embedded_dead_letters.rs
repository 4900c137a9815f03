//! Dead letters of a folder, read beside the process that delivers from it.

use hookline_store::{EmbeddedDeadLetters, EmbeddedQueue, NewEvents, Store};
use tempfile::TempDir;

use crate::fixture::{NOW, at, now};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn open() -> (EmbeddedQueue, EmbeddedDeadLetters, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (_, queue) = Store::embedded(folder.path()).unwrap();
    let dead = EmbeddedDeadLetters::beside_embedded(folder.path()).unwrap();
    (queue, dead, folder)
}

async fn dead_lettered_event(queue: &EmbeddedQueue, body: &[u8]) {
    let events = NewEvents {
        body: body.to_vec().into(),
        content_type: Some("text/plain".to_owned()),
        traceparent: Some(TRACE.to_owned()),
        admitted_at: None,
    };
    queue.push_events(events, None).await.unwrap();
    let taken = queue.take_events(1, now(), at(NOW + 1)).await.unwrap();
    queue
        .dead_letter_events(taken[0].id, "bad".to_owned(), now())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_event_that_is_put_back_is_the_same_message() {
    let (queue, dead, _folder) = open();
    dead_lettered_event(&queue, b"one").await;
    let listed = dead.page(0, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].reason.as_str()), (1, "bad"));
    assert_eq!((listed[0].size(), listed[0].since()), (3, now()));
    assert_eq!(dead.count().await.unwrap(), 1);

    assert!(dead.redrive(listed[0].id).await.unwrap());
    assert!(!dead.redrive(listed[0].id).await.unwrap());
    assert_eq!(dead.count().await.unwrap(), 0);
    let taken = queue.take_events(9, now(), now()).await.unwrap();
    assert_eq!((taken.len(), &*taken[0].body), (1, &b"one"[..]));
    assert_eq!(taken[0].content_type.as_deref(), Some("text/plain"));
    assert_eq!(taken[0].traceparent.as_deref(), Some(TRACE));
}

#[tokio::test]
async fn letters_are_paged_oldest_first_and_dropped() {
    let (queue, dead, _folder) = open();
    for number in 0..5_u8 {
        dead_lettered_event(&queue, &[number]).await;
    }
    let first = dead.page(0, 3).await.unwrap();
    let rest = dead.page(first[2].id, 3).await.unwrap();
    let bodies: Vec<u8> = first.iter().chain(&rest).map(|one| one.body[0]).collect();
    assert_eq!(bodies, [0, 1, 2, 3, 4]);
    assert!(dead.drop(first[1].id).await.unwrap());
    assert!(!dead.drop(first[1].id).await.unwrap());
    assert_eq!(dead.find(first[1].id).await.unwrap(), None);
    assert_eq!(dead.count().await.unwrap(), 4);
}
