//! The queue of deliveries that an earlier version declared.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};

use crate::broker::{OtherClient, Vhost, after, connect, eventually, number_of, receive_one};

const QUEUE: &str = "hookline.deliveries";

/// Declares the queue and its binding as the earlier version did.
async fn declare(channel: &Channel) {
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", "quorum"),
        ("x-dead-letter-exchange", "hookline.dead"),
        ("x-dead-letter-routing-key", "hookline.deliveries.dead"),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
    ] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(50));
    let durable = QueueDeclareOptions::durable();
    let declared = channel.queue_declare(QUEUE.into(), durable, arguments);
    declared.await.unwrap();
    let (exchange, key) = ("hookline.due", "#.deliveries");
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(
        QUEUE.into(),
        exchange.into(),
        key.into(),
        options,
        FieldTable::default(),
    );
    bound.await.unwrap();
}

/// Publishes a delivery as the earlier version did, with a delay of a second or none.
async fn publish(other_client: &OtherClient, is_delayed: bool) {
    let delayed = format!("{}1.deliveries", "0.".repeat(16));
    let (exchange, key) = match is_delayed {
        true => ("hookline.delay.0", delayed.as_str()),
        false => ("", QUEUE),
    };
    let persistent = BasicProperties::default().with_delivery_mode(2);
    other_client
        .publish(exchange, key, b"old", persistent)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_deliveries_are_purged_and_delay_no_event() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let other_client = Arc::new(vhost.other_client().await);
    declare(&other_client.channel).await;
    for number in 0..200 {
        publish(&other_client, number % 2 == 0).await;
    }
    let consumer = rabbit.events(1);
    let behind = after(Duration::from_secs(1), 7);
    consumer.defer(&[], &[behind]).await.unwrap();
    assert_eq!(number_of(&receive_one(&consumer).await), 7);
    eventually(async || other_client.count(QUEUE).await == Some(200)).await;

    // The rights of a dispatcher.
    let user = vhost.user(["^$", "^$", r"^hookline\\.deliveries$"]);
    let rabbit = connect(&user.url).await;
    let purging = tokio::spawn(rabbit.keep_old_deliveries_purged());
    eventually(async || other_client.count(QUEUE).await == Some(0)).await;
    assert!(!purging.is_finished());
    purging.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_new_broker_the_missing_queue_of_deliveries_closes_no_connection() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let consumer = rabbit.events(1);
    consumer.begin().await.unwrap();
    for queue in [QUEUE, "hookline.deliveries.dead"] {
        assert_eq!(vhost.other_client().await.count(queue).await, None);
    }
    crate::broker::publish(&rabbit.publisher(), 1..2)
        .await
        .unwrap();
    let received = receive_one(&consumer).await;
    for _ in 0..2 {
        assert_eq!(rabbit.purge_old_deliveries().await.unwrap(), 0);
    }
    assert!(consumer.is_owned(&received) && rabbit.is_ready());
    assert_eq!(vhost.other_client().await.count(QUEUE).await, None);
}
