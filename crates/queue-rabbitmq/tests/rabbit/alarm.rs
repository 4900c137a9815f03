//! An alarm of the broker for memory or disk.

use hookline_queue::QueueError;

use crate::broker::{Vhost, eventually, numbered, publish, receive_all, receive_one};

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_blocks_only_publishing_and_a_process_that_publishes_nothing_notices_it() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, consumer) = (rabbit.publisher(), rabbit.events(10));
    publish(&publisher, 0..30).await.unwrap();
    assert_eq!(rabbit.blocked(), None);

    vhost.alarm(true);
    eventually(async || rabbit.blocked().is_some()).await;
    assert_eq!(rabbit.blocked().as_deref(), Some("low on memory"));
    assert!(!publisher.is_ready());
    assert!(rabbit.is_ready() && consumer.is_ready());
    let refused = publisher.publish_events(numbered(99)).await;
    let Err(QueueError::Unavailable(why)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(why, "the broker blocks publishing: low on memory");

    // More than the prefetch, so the acks reach the broker.
    let received = receive_all(&consumer, 10).await;
    consumer.ack(received).await;
    let received = receive_all(&consumer, 10).await;
    consumer.ack(received).await;
    let received = receive_all(&consumer, 10).await;
    consumer.ack(received).await;
    let waiting = vhost.other_client().await.count("hookline.events").await;
    assert_eq!(waiting, Some(0));

    vhost.alarm(false);
    eventually(async || publisher.is_ready() && rabbit.blocked().is_none()).await;
    publisher.publish_events(numbered(31)).await.unwrap();
    let received = receive_one(&consumer).await;
    consumer.ack(vec![received]).await;
    rabbit.close().await;
}
