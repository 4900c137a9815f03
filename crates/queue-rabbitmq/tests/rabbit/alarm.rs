//! An alarm of the broker, for memory or disk.

use hookline_queue::QueueError;

use crate::broker::{Vhost, eventually, numbered, publish, take_all, take_one};

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_blocks_publishing_alone_and_is_noticed_by_those_that_publish_nothing() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, source) = (rabbit.publisher(), rabbit.events(10));
    publish(&publisher, 0..30).await.unwrap();
    assert_eq!(rabbit.blocked(), None);

    vhost.alarm(true);
    eventually(async || rabbit.blocked().is_some()).await;
    assert_eq!(rabbit.blocked().as_deref(), Some("low on memory"));
    assert!(!publisher.is_ready());
    assert!(rabbit.is_ready() && source.is_ready());
    let refused = publisher.publish_events(numbered(99)).await;
    let Err(QueueError::Unavailable(why)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(why, "the broker blocks publishing: low on memory");

    // More than the prefetch: the broker hears what is acked.
    let taken = take_all(&source, 10).await;
    source.ack(taken).await;
    let taken = take_all(&source, 10).await;
    source.ack(taken).await;
    let taken = take_all(&source, 10).await;
    source.ack(taken).await;
    let waiting = vhost.stranger().await.count("hookline.events").await;
    assert_eq!(waiting, Some(0));

    vhost.alarm(false);
    eventually(async || publisher.is_ready() && rabbit.blocked().is_none()).await;
    publisher.publish_events(numbered(31)).await.unwrap();
    let taken = take_one(&source).await;
    source.ack(vec![taken]).await;
    rabbit.close().await;
}
