//! The queue traits on a real RabbitMQ.
//!
//! They need `HOOKLINE_TEST_AMQP`, `HOOKLINE_TEST_RABBITMQCTL` and `HOOKLINE_TEST_RABBITMQ_EVAL`, which
//! `deploy/services start DIR` writes to `DIR/env`.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong value")]

mod alarm;
mod broker;
mod dead;
mod forged;
mod hosts;
mod old_deliveries;
mod operations;
mod proxy;
mod tls;
mod wake;
mod workflow;

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_core::wire::JSON_BATCH;
use hookline_queue::{Author, Deferred, PublishedEvents, QueueError, ReceivedMessage};
use lapin::BasicProperties;
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::broker::{
    CONFIRM_TIMEOUT, OtherClient, Vhost, after, connect, connect_with, eventually, json, number_of,
    numbered, publish, receive_all, receive_one, within_patience,
};
use crate::proxy::{GARBLED, Network, Proxy};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traced() -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(TRACE.into()));
    json("").1.with_headers(headers)
}

#[tokio::test(flavor = "multi_thread")]
async fn published_messages_arrive_once_and_are_gone_when_acked() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let publisher = rabbit.publisher();
    publish(&publisher, 0..100).await.unwrap();
    let other_client = vhost.other_client().await;
    eventually(async || other_client.count("hookline.events").await == Some(100)).await;

    let consumer = rabbit.events(200);
    let received = receive_all(&consumer, 100).await;
    assert!(received.iter().all(|received| !received.redelivered));
    let arrived: HashSet<_> = received.iter().map(number_of).collect();
    assert_eq!(arrived, (0..100).collect());
    consumer.ack(received).await;
    rabbit.close().await;
    assert!(!rabbit.is_ready());
    assert_eq!(other_client.count("hookline.events").await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn published_events_arrive_as_they_were_published() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let events = PublishedEvents {
        body: Bytes::from_static(b"[{}, {}]"),
        content_type: Some(JSON_BATCH.into()),
        author: Author::Hookline,
        trace: TraceParent::parse(TRACE),
        due: None,
    };
    rabbit.publisher().publish_events(events).await.unwrap();
    let received = receive_one(&rabbit.events(10)).await;
    assert_eq!(received.message.body, "[{}, {}]");
    assert_eq!(received.message.content_type.as_deref(), Some(JSON_BATCH));
    assert_eq!(received.message.trace, TraceParent::parse(TRACE));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_an_unknown_routing_key_arrives() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (body, properties) = json("{}");
    vhost
        .other_client()
        .await
        .publish("workflow.events", "no.such.type", &body, properties)
        .await;
    let received = receive_one(&rabbit.events(10)).await;
    assert_eq!(received.message.body, "{}");
    assert_eq!(received.message.trace, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_may_declare_the_exchange_first() {
    let vhost = Vhost::create();
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let other_client = vhost.other_client().await;
    other_client
        .channel
        .exchange_declare(
            "workflow.events".into(),
            ExchangeKind::Topic,
            durable,
            FieldTable::default(),
        )
        .await
        .unwrap();
    let rabbit = vhost.connect().await;
    let (body, properties) = json("{}");
    other_client
        .publish("workflow.events", "workflow.started", &body, properties)
        .await;
    assert_eq!(receive_one(&rabbit.events(10)).await.message.body, "{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_queue_takes_goes_to_the_rejected_events() {
    let vhost = Vhost::create();
    let _rabbit = vhost.connect().await;
    let other_client = vhost.other_client().await;
    let options = QueueDeleteOptions::default();
    let deleted = other_client
        .channel
        .queue_delete("hookline.events".into(), options)
        .await;
    deleted.unwrap();
    let (body, properties) = json("{}");
    other_client
        .publish("workflow.events", "workflow.started", &body, properties)
        .await;
    assert_eq!(
        other_client.get("hookline.events.rejected").await.body,
        b"{}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_is_never_too_short_and_at_most_a_second_too_long() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let consumer = rabbit.events(10);
    let published = Instant::now();
    let deferred = [5, 3, 1, 2].map(|number| {
        let delay = Duration::from_secs(u64::from(number));
        after(delay, number)
    });
    consumer.defer(&[], &deferred).await.unwrap();
    let confirmed = Instant::now();
    for number in [1, 2, 3, 5] {
        let received = receive_one(&consumer).await;
        let delay = Duration::from_secs(u64::from(number));
        assert_eq!(number_of(&received), number);
        assert!(!received.redelivered);
        assert!(published.elapsed() >= delay, "{number} s came early");
        let late = confirmed.elapsed().saturating_sub(delay);
        assert!(late <= Duration::from_secs(1), "{number} s: {late:?} late");
        consumer.ack(vec![received]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_delayed_messages_all_arrive() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let delay = Duration::from_secs(3);
    let deferred: Vec<_> = (0..2000).map(|number| after(delay, number)).collect();
    let consumer = rabbit.events(500);
    consumer.defer(&[], &deferred).await.unwrap();
    let mut arrived = HashSet::new();
    within_patience(async {
        while arrived.len() < 2000 {
            let batch = consumer.receive(500).await;
            arrived.extend(batch.iter().map(number_of));
            consumer.ack(batch).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_connection_the_message_comes_again_without_a_restart() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, consumer) = (rabbit.publisher(), rabbit.events(10));
    publisher.publish_events(numbered(1)).await.unwrap();
    let held = receive_one(&consumer).await;
    assert!(!held.redelivered);

    vhost.close_all_connections();
    let again = receive_one(&consumer).await;
    assert_eq!(number_of(&again), 1);
    assert!(again.redelivered);
    consumer.ack(vec![held]).await;
    consumer.ack(vec![again]).await;

    eventually(async || publisher.is_ready() && consumer.is_ready()).await;
    publisher.publish_events(numbered(2)).await.unwrap();
    assert_eq!(number_of(&receive_one(&consumer).await), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_survives_the_deletion_of_its_queue() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, consumer) = (rabbit.publisher(), rabbit.events(10));
    publisher.publish_events(numbered(1)).await.unwrap();
    let received = receive_one(&consumer).await;
    consumer.ack(vec![received]).await;
    vhost.ctl("delete_queue", &["hookline.events"]);

    let waiting = tokio::spawn(async move { number_of(&receive_one(&consumer).await) });
    eventually(async || publisher.publish_events(numbered(2)).await.is_ok()).await;
    assert_eq!(waiting.await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requeued_message_comes_again_marked_as_redelivered() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let consumer = rabbit.events(10);
    publish(&rabbit.publisher(), 1..2).await.unwrap();
    let first = receive_one(&consumer).await;
    consumer.requeue(vec![first]).await;
    let second = receive_one(&consumer).await;
    assert_eq!(number_of(&second), 1);
    assert!(second.redelivered);
}

/// A nack would count: after enough rolling restarts, a message that always waited in memory would be dead-lettered
/// although no work on it ever began.
#[tokio::test(flavor = "multi_thread")]
async fn requeue_uncounted_never_raises_the_delivery_count() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    publish(&rabbit.publisher(), 0..20).await.unwrap();
    // One message is requeued after work on it began.
    let consumer = rabbit.events(100);
    let mut received = receive_all(&consumer, 20).await;
    consumer.requeue(vec![received.remove(0)]).await;
    consumer.requeue_uncounted(received).await;
    consumer.stop();
    consumer
        .requeue_uncounted(consumer.receive(100).await)
        .await;
    for _ in 0..12 {
        let consumer = rabbit.events(100);
        let received = receive_all(&consumer, 20).await;
        consumer.requeue_uncounted(received).await;
        consumer.stop();
        let ahead = consumer.receive(100).await;
        consumer.requeue_uncounted(ahead).await;
        assert!(consumer.receive(100).await.is_empty());
    }
    let received = receive_all(&rabbit.events(100), 20).await;
    let counts: Vec<u32> = received
        .iter()
        .map(|received| received.delivery_count)
        .collect();
    // RabbitMQ itself requeues a message that was on its way to a cancelled consumer, and counts that: seldom, and hardly
    // ever twice for one message. A nack would have counted each message 14 times.
    assert!(counts.iter().all(|count| *count <= 3), "{counts:?}");
    // That message has kept its count.
    assert!(
        received.iter().any(|received| received.redelivered),
        "{counts:?}"
    );
    assert!(counts.iter().sum::<u32>() >= 1, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prefetched_messages_of_a_stopped_consumer_go_to_others_and_received_ones_can_be_acked() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let publisher = rabbit.publisher();
    publish(&publisher, 0..20).await.unwrap();
    let (stopping, other) = (rabbit.events(100), rabbit.events(100));
    let first = receive_one(&stopping).await;
    // A waiting `receive` returns.
    stopping.stop();
    let ahead = within_patience(stopping.receive(1)).await;
    stopping.requeue_uncounted(ahead).await;
    assert!(within_patience(stopping.receive(1)).await.is_empty());
    assert!(stopping.is_owned(&first));
    stopping.ack(vec![first]).await;
    let received = receive_all(&other, 19).await;
    // RabbitMQ itself requeues a message that was on its way to the cancelled consumer.
    let redelivered = received
        .iter()
        .filter(|received| received.redelivered)
        .count();
    assert!(redelivered <= 3, "{redelivered}");
    other.ack(received).await;
    rabbit.close().await;
    let waiting = vhost.other_client().await.count("hookline.events").await;
    assert_eq!(waiting, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_lost_connection_is_no_longer_owned() {
    let vhost = Vhost::create();
    let proxy = Proxy::to(&vhost.url()).await;
    let rabbit = connect(&proxy.url(&vhost.url())).await;
    let consumer = rabbit.events(10);
    publish(&rabbit.publisher(), 1..2).await.unwrap();
    let received = receive_one(&consumer).await;
    assert!(consumer.is_owned(&received));
    proxy.set(Network::Cut);
    eventually(async || !consumer.is_owned(&received)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delivery_count_rises_with_each_requeue() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, consumer) = (rabbit.publisher(), rabbit.events(100));
    publisher.publish_events(numbered(1)).await.unwrap();
    for delivery_count in 0..5 {
        let received = receive_one(&consumer).await;
        assert_eq!(
            (received.delivery_count, received.redelivered),
            (delivery_count, delivery_count > 0)
        );
        consumer.requeue(vec![received]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_message_comes_when_it_is_due_and_lets_others_pass() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let other_client = vhost.other_client().await;
    for body in [b"{1}", b"{2}"] {
        other_client
            .publish("workflow.events", "workflow.started", body, traced())
            .await;
    }
    let consumer = rabbit.events(1);
    let mut first = receive_one(&consumer).await;
    assert_eq!(first.message.due, None);
    let due = Timestamp::from(SystemTime::now()).after(Duration::from_secs(2));
    first.message.due = Some(due);
    let defer = async |received: ReceivedMessage<PublishedEvents>| {
        let deferred = Deferred {
            message: received.message.clone(),
            delivery_count: received.count_to_carry(),
        };
        consumer.defer(&[received], &[deferred]).await.unwrap();
    };
    defer(first).await;

    let second = receive_one(&consumer).await;
    assert_eq!(second.message.body, "{2}");
    consumer.ack(vec![second]).await;
    for tried in 0..2 {
        let again = receive_one(&consumer).await;
        assert_eq!(again.message.body, "{1}");
        assert_eq!(again.message.due, Some(due));
        assert_eq!(again.message.trace, TraceParent::parse(TRACE));
        assert_eq!(
            (again.redelivered, again.delivery_count),
            (false, 0),
            "{tried}"
        );
        assert!(due <= SystemTime::now().into(), "it came early");
        defer(again).await;
    }
    rabbit.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_lettered_event_is_in_the_rejected_queue_with_reason_and_trace() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let other_client = vhost.other_client().await;
    other_client
        .publish("workflow.events", "workflow.started", b"{]", traced())
        .await;
    let consumer = rabbit.events(10);
    let received = receive_one(&consumer).await;
    consumer
        .dead_letter(received, "is not valid JSON: é")
        .await
        .unwrap();

    let seen = other_client.get("hookline.events.rejected").await;
    assert_eq!(seen.body, b"{]");
    assert_eq!(
        seen.header("x-hookline-reason").as_deref(),
        Some("is not valid JSON: é")
    );
    assert_eq!(seen.header("traceparent").as_deref(), Some(TRACE));
    let content_type = seen.properties.content_type().as_ref();
    assert_eq!(content_type.unwrap().as_str(), "application/json");

    rabbit.close().await;
    let rest = other_client
        .channel
        .queue_purge("hookline.events".into(), Default::default());
    assert_eq!(rest.await.unwrap(), 0, "the original is acked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_breaks_every_connection_is_dead_lettered_and_no_other() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let proxy = Proxy::to(&vhost.url()).await;
    let other_client = OtherClient::at(&proxy.url(&vhost.url())).await;
    for content_type in ["application/json", GARBLED, "application/json"] {
        let properties = BasicProperties::default().with_content_type(content_type.into());
        other_client
            .publish("workflow.events", "workflow.started", b"{}", properties)
            .await;
    }
    let consumer = rabbit.events(100);
    let settling = tokio::spawn(async move {
        loop {
            let batch = consumer.receive(10).await;
            consumer.ack(batch).await;
        }
    });
    let rejected = async || other_client.count("hookline.events.rejected").await;
    eventually(async || rejected().await == Some(1)).await;
    let settled = async || other_client.count("hookline.events").await == Some(0);
    eventually(async || rabbit.is_ready() && settled().await).await;
    assert_eq!(rejected().await, Some(1));
    settling.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_form_under_load_within_their_limit() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, consumer) = (rabbit.publisher(), rabbit.events(500));
    publish(&publisher, 0..1000).await.unwrap();
    let _first = receive_one(&consumer).await;
    let other_client = vhost.other_client().await;
    eventually(async || other_client.count("hookline.events").await == Some(500)).await;
    eventually(async || {
        let batch = consumer.receive(64).await;
        assert!(batch.len() <= 64);
        batch.len() == 64
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_receive_loses_no_message() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let consumer = rabbit.events(10);
    let nothing = tokio::time::timeout(Duration::from_millis(200), consumer.receive(1)).await;
    assert!(nothing.is_err());
    publish(&rabbit.publisher(), 1..2).await.unwrap();
    assert_eq!(number_of(&receive_one(&consumer).await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_broker_is_unavailable_at_once_and_back_without_a_restart() {
    let vhost = Vhost::create();
    let proxy = Proxy::to(&vhost.url()).await;
    let rabbit = connect_with(&proxy.url(&vhost.url()), CONFIRM_TIMEOUT).await;
    let (publisher, consumer) = (rabbit.publisher(), rabbit.events(10));

    proxy.set(Network::Cut);
    let asked = Instant::now();
    let refused = publisher.publish_events(numbered(1)).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))));
    assert!(asked.elapsed() <= CONFIRM_TIMEOUT + Duration::from_secs(1));
    eventually(async || !publisher.is_ready() && !consumer.is_ready()).await;

    proxy.set(Network::Passing);
    eventually(async || publisher.is_ready()).await;
    publisher.publish_events(numbered(2)).await.unwrap();
    assert_eq!(number_of(&receive_one(&consumer).await), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_is_unavailable_within_the_timeout_and_then_noticed() {
    let vhost = Vhost::create();
    let proxy = Proxy::to(&vhost.url()).await;
    let mut url = proxy.url(&vhost.url());
    url.set_query(Some("heartbeat=1&connection_timeout=500"));
    let rabbit = connect_with(&url, CONFIRM_TIMEOUT).await;
    let publisher = rabbit.publisher();

    proxy.set(Network::Frozen);
    let asked = Instant::now();
    let refused = publisher.publish_events(numbered(1)).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))));
    assert!(asked.elapsed() <= CONFIRM_TIMEOUT + Duration::from_secs(1));
    eventually(async || !publisher.is_ready()).await;

    proxy.set(Network::Passing);
    eventually(async || publisher.is_ready()).await;
    publisher.publish_events(numbered(2)).await.unwrap();
}
