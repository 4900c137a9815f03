//! Sentences about the queue contract on a real RabbitMQ.
//!
//! They need `HOOKLINE_TEST_AMQP`, `HOOKLINE_TEST_RABBITMQCTL` and `HOOKLINE_TEST_RABBITMQ_EVAL`, which
//! `deploy/services start DIR` writes to `DIR/env`.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing there and then"
)]

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
use hookline_queue::{Coming, PublishedEvents, QueueError, Taken, Writer};
use lapin::BasicProperties;
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::broker::{
    CONFIRM_TIMEOUT, Stranger, Vhost, after, connect, connect_with, eventually, json, number_of,
    numbered, publish, take_all, take_one, within_patience,
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
    let stranger = vhost.stranger().await;
    eventually(async || stranger.count("hookline.events").await == Some(100)).await;

    let source = rabbit.events(200);
    let taken = take_all(&source, 100).await;
    assert!(taken.iter().all(|taken| !taken.redelivered));
    let arrived: HashSet<_> = taken.iter().map(number_of).collect();
    assert_eq!(arrived, (0..100).collect());
    source.ack(taken).await;
    rabbit.close().await;
    assert!(!rabbit.is_ready());
    assert_eq!(stranger.count("hookline.events").await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn published_events_arrive_as_they_were_published() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let events = PublishedEvents {
        body: Bytes::from_static(b"[{}, {}]"),
        content_type: Some(JSON_BATCH.into()),
        writer: Writer::Hookline,
        trace: TraceParent::parse(TRACE),
        turn: None,
    };
    rabbit.publisher().publish_events(events).await.unwrap();
    let taken = take_one(&rabbit.events(10)).await;
    assert_eq!(taken.message.body, "[{}, {}]");
    assert_eq!(taken.message.content_type.as_deref(), Some(JSON_BATCH));
    assert_eq!(taken.message.trace, TraceParent::parse(TRACE));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_an_unknown_routing_key_arrives_all_the_same() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (body, properties) = json("{}");
    vhost
        .stranger()
        .await
        .publish("workflow.events", "no.such.type", &body, properties)
        .await;
    let taken = take_one(&rabbit.events(10)).await;
    assert_eq!(taken.message.body, "{}");
    assert_eq!(taken.message.trace, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_may_declare_the_exchange_before_us() {
    let vhost = Vhost::create();
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let stranger = vhost.stranger().await;
    stranger
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
    stranger
        .publish("workflow.events", "workflow.started", &body, properties)
        .await;
    assert_eq!(take_one(&rabbit.events(10)).await.message.body, "{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_queue_takes_is_not_lost() {
    let vhost = Vhost::create();
    let _rabbit = vhost.connect().await;
    let stranger = vhost.stranger().await;
    let options = QueueDeleteOptions::default();
    let deleted = stranger
        .channel
        .queue_delete("hookline.events".into(), options)
        .await;
    deleted.unwrap();
    let (body, properties) = json("{}");
    stranger
        .publish("workflow.events", "workflow.started", &body, properties)
        .await;
    assert_eq!(stranger.get("hookline.events.rejected").await.body, b"{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_is_never_cut_short_and_at_most_a_second_late() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let source = rabbit.events(10);
    let published = Instant::now();
    let coming = [5, 3, 1, 2].map(|number| {
        let delay = Duration::from_secs(u64::from(number));
        after(delay, number)
    });
    source.put_off(&[], &coming).await.unwrap();
    let confirmed = Instant::now();
    for number in [1, 2, 3, 5] {
        let taken = take_one(&source).await;
        let delay = Duration::from_secs(u64::from(number));
        assert_eq!(number_of(&taken), number);
        assert!(!taken.redelivered);
        assert!(published.elapsed() >= delay, "{number} s came early");
        let late = confirmed.elapsed().saturating_sub(delay);
        assert!(late <= Duration::from_secs(1), "{number} s: {late:?} late");
        source.ack(vec![taken]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_delayed_messages_all_arrive() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let delay = Duration::from_secs(3);
    let coming: Vec<_> = (0..2000).map(|number| after(delay, number)).collect();
    let source = rabbit.events(500);
    source.put_off(&[], &coming).await.unwrap();
    let mut arrived = HashSet::new();
    within_patience(async {
        while arrived.len() < 2000 {
            let batch = source.take(500).await;
            arrived.extend(batch.iter().map(number_of));
            source.ack(batch).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_brings_the_message_again_and_needs_no_restart() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, source) = (rabbit.publisher(), rabbit.events(10));
    publisher.publish_events(numbered(1)).await.unwrap();
    let held = take_one(&source).await;
    assert!(!held.redelivered);

    vhost.close_all_connections();
    let again = take_one(&source).await;
    assert_eq!(number_of(&again), 1);
    assert!(again.redelivered);
    source.ack(vec![held]).await;
    source.ack(vec![again]).await;

    eventually(async || publisher.is_ready() && source.is_ready()).await;
    publisher.publish_events(numbered(2)).await.unwrap();
    assert_eq!(number_of(&take_one(&source).await), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_survives_the_deletion_of_its_queue() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, source) = (rabbit.publisher(), rabbit.events(10));
    publisher.publish_events(numbered(1)).await.unwrap();
    let taken = take_one(&source).await;
    source.ack(vec![taken]).await;
    vhost.ctl("delete_queue", &["hookline.events"]);

    let waiting = tokio::spawn(async move { number_of(&take_one(&source).await) });
    eventually(async || publisher.publish_events(numbered(2)).await.is_ok()).await;
    assert_eq!(waiting.await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_message_comes_again_marked_as_redelivered() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let source = rabbit.events(10);
    publish(&rabbit.publisher(), 1..2).await.unwrap();
    let first = take_one(&source).await;
    source.release(vec![first]).await;
    let second = take_one(&source).await;
    assert_eq!(number_of(&second), 1);
    assert!(second.redelivered);
}

/// A nack would count, and a message that rests in a process's memory through enough rolling
/// restarts would end among the dead though nobody ever did anything with it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_back_untouched_counts_as_never_taken_however_often() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    publish(&rabbit.publisher(), 0..20).await.unwrap();
    // One of them has been given back half done.
    let source = rabbit.events(100);
    let mut taken = take_all(&source, 20).await;
    source.release(vec![taken.remove(0)]).await;
    source.put_back(taken).await;
    source.stop();
    source.put_back(source.take(100).await).await;
    for _ in 0..12 {
        let source = rabbit.events(100);
        let taken = take_all(&source, 20).await;
        source.put_back(taken).await;
        source.stop();
        let ahead = source.take(100).await;
        source.put_back(ahead).await;
        assert!(source.take(100).await.is_empty());
    }
    let taken = take_all(&rabbit.events(100), 20).await;
    let returns: Vec<u32> = taken.iter().map(|taken| taken.returns).collect();
    // RabbitMQ returns a message by itself when it was on its way to a consumer that is cancelled, and counts that:
    // seldom, and hardly ever twice the same message. A nack would have counted each message 14 times.
    assert!(returns.iter().all(|returns| *returns <= 3), "{returns:?}");
    // What was given back half done has kept its count.
    assert!(taken.iter().any(|taken| taken.redelivered), "{returns:?}");
    assert!(returns.iter().sum::<u32>() >= 1, "{returns:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_source_has_ahead_goes_to_others_when_it_stops_and_what_was_taken_can_be_acked() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let publisher = rabbit.publisher();
    publish(&publisher, 0..20).await.unwrap();
    let (stopping, other) = (rabbit.events(100), rabbit.events(100));
    let first = take_one(&stopping).await;
    // A take that waits does not wait for ever.
    stopping.stop();
    let ahead = within_patience(stopping.take(1)).await;
    stopping.put_back(ahead).await;
    assert!(within_patience(stopping.take(1)).await.is_empty());
    assert!(stopping.holds(&first));
    stopping.ack(vec![first]).await;
    let taken = take_all(&other, 19).await;
    // But for a message that was on its way to the cancelled consumer: RabbitMQ returns it by itself.
    let redelivered = taken.iter().filter(|taken| taken.redelivered).count();
    assert!(redelivered <= 3, "{redelivered}");
    other.ack(taken).await;
    rabbit.close().await;
    let waiting = vhost.stranger().await.count("hookline.events").await;
    assert_eq!(waiting, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_on_a_lost_connection_is_no_longer_held() {
    let vhost = Vhost::create();
    let proxy = Proxy::to(&vhost.url()).await;
    let rabbit = connect(&proxy.url(&vhost.url())).await;
    let source = rabbit.events(10);
    publish(&rabbit.publisher(), 1..2).await.unwrap();
    let taken = take_one(&source).await;
    assert!(source.holds(&taken));
    proxy.set(Network::Cut);
    eventually(async || !source.holds(&taken)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_says_how_often_it_came_back() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, source) = (rabbit.publisher(), rabbit.events(100));
    publisher.publish_events(numbered(1)).await.unwrap();
    for returns in 0..5 {
        let taken = take_one(&source).await;
        assert_eq!((taken.returns, taken.redelivered), (returns, returns > 0));
        source.release(vec![taken]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_put_off_come_again_at_their_turn_and_let_others_pass() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let stranger = vhost.stranger().await;
    for body in [b"{1}", b"{2}"] {
        stranger
            .publish("workflow.events", "workflow.started", body, traced())
            .await;
    }
    let source = rabbit.events(1);
    let mut first = take_one(&source).await;
    assert_eq!(first.message.turn, None);
    let turn = Timestamp::from(SystemTime::now()).after(Duration::from_secs(2));
    first.message.turn = Some(turn);
    let put_off = async |taken: Taken<PublishedEvents>| {
        let coming = Coming {
            message: taken.message.clone(),
            returns: taken.held_before(),
        };
        source.put_off(&[taken], &[coming]).await.unwrap();
    };
    put_off(first).await;

    let second = take_one(&source).await;
    assert_eq!(second.message.body, "{2}");
    source.ack(vec![second]).await;
    for tried in 0..2 {
        let again = take_one(&source).await;
        assert_eq!(again.message.body, "{1}");
        assert_eq!(again.message.turn, Some(turn));
        assert_eq!(again.message.trace, TraceParent::parse(TRACE));
        assert_eq!((again.redelivered, again.returns), (false, 0), "{tried}");
        assert!(turn <= SystemTime::now().into(), "it came early");
        put_off(again).await;
    }
    rabbit.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buried_event_is_in_the_rejected_queue_with_the_reason_and_its_trace() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let stranger = vhost.stranger().await;
    stranger
        .publish("workflow.events", "workflow.started", b"{]", traced())
        .await;
    let source = rabbit.events(10);
    let taken = take_one(&source).await;
    source.bury(taken, "is not valid JSON: é").await.unwrap();

    let seen = stranger.get("hookline.events.rejected").await;
    assert_eq!(seen.body, b"{]");
    assert_eq!(
        seen.header("x-hookline-reason").as_deref(),
        Some("is not valid JSON: é")
    );
    assert_eq!(seen.header("traceparent").as_deref(), Some(TRACE));
    let content_type = seen.properties.content_type().as_ref();
    assert_eq!(content_type.unwrap().as_str(), "application/json");

    rabbit.close().await;
    let rest = stranger
        .channel
        .queue_purge("hookline.events".into(), Default::default());
    assert_eq!(rest.await.unwrap(), 0, "the original is acked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_breaks_every_connection_ends_among_the_dead_and_takes_nobody_along() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let proxy = Proxy::to(&vhost.url()).await;
    let stranger = Stranger::at(&proxy.url(&vhost.url())).await;
    for content_type in ["application/json", GARBLED, "application/json"] {
        let properties = BasicProperties::default().with_content_type(content_type.into());
        stranger
            .publish("workflow.events", "workflow.started", b"{}", properties)
            .await;
    }
    let source = rabbit.events(100);
    let settling = tokio::spawn(async move {
        loop {
            let batch = source.take(10).await;
            source.ack(batch).await;
        }
    });
    let rejected = async || stranger.count("hookline.events.rejected").await;
    eventually(async || rejected().await == Some(1)).await;
    let settled = async || stranger.count("hookline.events").await == Some(0);
    eventually(async || rabbit.is_ready() && settled().await).await;
    assert_eq!(rejected().await, Some(1));
    settling.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_form_under_load_and_stay_within_their_limit() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, source) = (rabbit.publisher(), rabbit.events(500));
    publish(&publisher, 0..1000).await.unwrap();
    let _first = take_one(&source).await;
    let stranger = vhost.stranger().await;
    eventually(async || stranger.count("hookline.events").await == Some(500)).await;
    eventually(async || {
        let batch = source.take(64).await;
        assert!(batch.len() <= 64);
        batch.len() == 64
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_take_loses_no_message() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let source = rabbit.events(10);
    let nothing = tokio::time::timeout(Duration::from_millis(200), source.take(1)).await;
    assert!(nothing.is_err());
    publish(&rabbit.publisher(), 1..2).await.unwrap();
    assert_eq!(number_of(&take_one(&source).await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_out_of_reach_is_unavailable_at_once_and_back_without_a_restart() {
    let vhost = Vhost::create();
    let proxy = Proxy::to(&vhost.url()).await;
    let rabbit = connect_with(&proxy.url(&vhost.url()), CONFIRM_TIMEOUT).await;
    let (publisher, source) = (rabbit.publisher(), rabbit.events(10));

    proxy.set(Network::Cut);
    let asked = Instant::now();
    let refused = publisher.publish_events(numbered(1)).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))));
    assert!(asked.elapsed() <= CONFIRM_TIMEOUT + Duration::from_secs(1));
    eventually(async || !publisher.is_ready() && !source.is_ready()).await;

    proxy.set(Network::Passing);
    eventually(async || publisher.is_ready()).await;
    publisher.publish_events(numbered(2)).await.unwrap();
    assert_eq!(number_of(&take_one(&source).await), 2);
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
