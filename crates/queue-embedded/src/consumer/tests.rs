use hookline_store::Store;
use tempfile::TempDir;

use super::*;
use crate::shutdown_marker::LastShutdown;

struct TestFolder {
    events: EventQueue,
    _folder: TempDir,
}

async fn after(last: LastShutdown) -> TestFolder {
    let folder = tempfile::tempdir().unwrap();
    let (_, queue) = Store::embedded(folder.path()).unwrap();
    let folder = TestFolder {
        events: EventQueue::new(queue, last),
        _folder: folder,
    };
    // The first poll is for messages of an earlier process.
    assert_eq!(folder.written().await, 0);
    folder
}

impl TestFolder {
    fn publish(&self) -> tokio::task::JoinHandle<Result<(), QueueError>> {
        let events = self.events.clone();
        tokio::spawn(async move {
            let message = PublishedEvents {
                body: "[]".into(),
                content_type: None,
                author: Author::Hookline,
                trace: None,
                due: None,
            };
            events.publish(message).await
        })
    }

    async fn receive(&self) -> ReceivedMessage<PublishedEvents> {
        let mut received = self.events.receive(10).await;
        assert_eq!(received.len(), 1);
        received.remove(0)
    }

    /// How many messages the queue of the store has, received ones included.
    async fn written(&self) -> usize {
        let beyond_leases = now().after(2 * LEASE);
        let queue = &self.events.queue;
        let received = queue.take_events(10, beyond_leases, beyond_leases).await;
        received.unwrap().len()
    }
}

#[tokio::test]
async fn events_that_intake_stores_at_once_are_never_written_into_the_queue() {
    let folder = after(LastShutdown::Clean).await;
    let publishing = folder.publish();
    let received = folder.receive().await;
    // On a slow machine the wait may be over by now, and then it is written.
    let is_over = publishing.is_finished();
    assert!(!is_over || folder.written().await == 1, "it is not durable");
    folder.events.ack(vec![received]).await;
    publishing.await.unwrap().unwrap();
    assert_eq!(folder.written().await, 0);
}

#[tokio::test]
async fn events_that_are_not_received_soon_are_written() {
    let folder = after(LastShutdown::Clean).await;
    folder.publish().await.unwrap().unwrap();
    assert_eq!(folder.events.handoff.len(), 0);
    assert_eq!(folder.written().await, 1);
}

#[tokio::test]
async fn a_publisher_does_not_wait_for_a_slow_intake() {
    let folder = after(LastShutdown::Clean).await;
    let publishing = folder.publish();
    let received = folder.receive().await;
    publishing.await.unwrap().unwrap();
    assert_eq!(folder.written().await, 1);
    folder.events.ack(vec![received]).await;
    assert_eq!(folder.written().await, 0);

    let publishing = folder.publish();
    let received = folder.receive().await;
    publishing.await.unwrap().unwrap();
    folder.events.defer(&[received], &[]).await.unwrap();
    assert_eq!(folder.written().await, 0);
}

#[tokio::test]
async fn requeued_events_are_written_and_keep_their_delivery_count() {
    let folder = after(LastShutdown::Clean).await;
    for (uncounted, delivery_count) in [(true, 0), (false, 1)] {
        let publishing = folder.publish();
        let received = folder.receive().await;
        match uncounted {
            true => folder.events.requeue_uncounted(vec![received]).await,
            false => folder.events.requeue(vec![received]).await,
        }
        publishing.await.unwrap().unwrap();
        let again = folder.receive().await;
        assert_eq!(
            (again.delivery_count, again.redelivered),
            (delivery_count, delivery_count > 0)
        );
        folder.events.ack(vec![again]).await;
    }
    assert_eq!(folder.written().await, 0);
}

#[tokio::test]
async fn dead_lettered_events_are_durable_among_the_dead_letters() {
    let folder = after(LastShutdown::Clean).await;
    let publishing = folder.publish();
    let received = folder.receive().await;
    folder
        .events
        .dead_letter(received, "no events")
        .await
        .unwrap();
    publishing.await.unwrap().unwrap();
    assert_eq!(folder.events.queue.dead_letters().await.unwrap(), [1, 0]);
    assert_eq!(folder.written().await, 0);
}

#[tokio::test]
async fn after_an_unclean_shutdown_events_are_written_before_they_are_received() {
    let folder = after(LastShutdown::Unclean).await;
    folder.publish().await.unwrap().unwrap();
    let _held = folder.receive().await;
    assert_eq!(folder.written().await, 1);
}
