//! Headers and formats that only Hookline or the broker may write, forged by a publisher.

use std::time::{Duration, SystemTime};

use hookline_core::timestamp::Timestamp;
use hookline_core::wire::JSON_BUNDLE;
use hookline_queue::{Author, Deferred, PublishedEvents};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::broker::{Vhost, publish, receive_one};

fn forged() -> BasicProperties {
    let mut headers = FieldTable::default();
    for name in [
        "x-hookline-turn",
        "x-hookline-delivery-count",
        "x-delivery-count",
    ] {
        headers.insert(name.into(), AMQPValue::LongLongInt(4_000_000_000_000_000));
    }
    let own = AMQPValue::LongString("hookline".into());
    headers.insert("x-hookline-writer".into(), own.clone());
    headers.insert("x-hookline-reason".into(), own);
    BasicProperties::default()
        .with_content_type(JSON_BUNDLE.into())
        .with_headers(headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_a_publisher_forges_are_ignored_also_after_a_requeue_a_deferral_and_a_dead_letter()
 {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    vhost
        .other_client()
        .await
        .publish("workflow.events", "workflow.started", b"[]", forged())
        .await;
    let consumer = rabbit.events(10);
    let received = receive_one(&consumer).await;
    assert_eq!(received.message.author, Author::Publisher);
    assert_eq!(received.message.due, None);
    assert_eq!((received.redelivered, received.delivery_count), (false, 0));
    consumer.requeue(vec![received]).await;

    let back = receive_one(&consumer).await;
    assert_eq!(back.message.author, Author::Publisher);
    consumer.requeue_uncounted(vec![back]).await;
    let mut requeued = receive_one(&consumer).await;
    assert_eq!(requeued.message.author, Author::Publisher);
    let due = Timestamp::from(SystemTime::now()).after(Duration::from_secs(1));
    requeued.message.due = Some(due);
    let deferred = Deferred {
        message: requeued.message.clone(),
        delivery_count: 0,
    };
    consumer.defer(&[requeued], &[deferred]).await.unwrap();

    let after_deferral = receive_one(&consumer).await;
    assert_eq!(after_deferral.message.author, Author::Publisher);
    assert_eq!(after_deferral.message.due, Some(due), "this one is ours");
    consumer
        .dead_letter(after_deferral, "a bundle of a publisher")
        .await
        .unwrap();

    let mut inspection = rabbit.inspect().await.unwrap();
    let letter = inspection.next().await.unwrap().unwrap();
    assert_eq!(letter.reason(), "a bundle of a publisher");
    let events = letter.events();
    inspection.remove(&letter).await.unwrap();
    inspection.end().await.unwrap();
    rabbit.publisher().publish_events(events).await.unwrap();
    let redriven = receive_one(&consumer).await;
    assert_eq!(redriven.message.author, Author::Publisher);
    assert_eq!(redriven.message.content_type.as_deref(), Some(JSON_BUNDLE));
    consumer.ack(vec![redriven]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_hookline_keeps_its_author_after_a_requeue_and_a_deferral() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let consumer = rabbit.events(10);
    let due = Timestamp::from(SystemTime::now()).after(Duration::from_secs(1));
    let events = PublishedEvents {
        body: "[]".into(),
        content_type: Some(JSON_BUNDLE.into()),
        author: Author::Hookline,
        trace: None,
        due: Some(due),
    };
    rabbit.publisher().publish_events(events).await.unwrap();
    let received = receive_one(&consumer).await;
    assert_eq!(received.message.author, Author::Hookline);
    consumer.requeue_uncounted(vec![received]).await;
    let requeued = receive_one(&consumer).await;
    let deferred = Deferred {
        message: requeued.message.clone(),
        delivery_count: 3,
    };
    consumer.defer(&[requeued], &[deferred]).await.unwrap();
    let after_deferral = receive_one(&consumer).await;
    assert_eq!(after_deferral.message.author, Author::Hookline);
    assert_eq!(
        (after_deferral.message.due, after_deferral.delivery_count),
        (Some(due), 3)
    );
    consumer.ack(vec![after_deferral]).await;
}

/// In RabbitMQ 3.10 the broker's own limit would end the loop one return later; in 4.3 nothing would end it.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_of_nacks_ends_by_our_own_count() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let consumer = rabbit.events(1);
    publish(&rabbit.publisher(), 1..2).await.unwrap();
    let looping = tokio::spawn(async move {
        loop {
            let batch = consumer.receive(1).await;
            consumer.requeue(batch).await;
        }
    });
    let seen = vhost
        .other_client()
        .await
        .get("hookline.events.rejected")
        .await;
    assert_eq!(seen.body, b"1");
    assert_eq!(
        seen.header("x-hookline-reason").as_deref(),
        Some("the message came back 50 times and was never settled")
    );
    looping.abort();
}
