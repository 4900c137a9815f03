//! What a publisher writes of what only Hookline, or the broker, may write.

use std::time::{Duration, SystemTime};

use hookline_core::timestamp::Timestamp;
use hookline_core::wire::JSON_BUNDLE;
use hookline_queue::{Coming, PublishedEvents, Writer};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::broker::{Vhost, publish, take_one};

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
async fn what_a_publisher_forges_is_not_believed_now_nor_after_any_way_back() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    vhost
        .stranger()
        .await
        .publish("workflow.events", "workflow.started", b"[]", forged())
        .await;
    let source = rabbit.events(10);
    let taken = take_one(&source).await;
    assert_eq!(taken.message.writer, Writer::Publisher);
    assert_eq!(taken.message.turn, None);
    assert_eq!((taken.redelivered, taken.returns), (false, 0));
    source.release(vec![taken]).await;

    let back = take_one(&source).await;
    assert_eq!(back.message.writer, Writer::Publisher);
    source.put_back(vec![back]).await;
    let mut put_back = take_one(&source).await;
    assert_eq!(put_back.message.writer, Writer::Publisher);
    let turn = Timestamp::from(SystemTime::now()).after(Duration::from_secs(1));
    put_back.message.turn = Some(turn);
    let coming = Coming {
        message: put_back.message.clone(),
        returns: 0,
    };
    source.put_off(&[put_back], &[coming]).await.unwrap();

    let put_off = take_one(&source).await;
    assert_eq!(put_off.message.writer, Writer::Publisher);
    assert_eq!(put_off.message.turn, Some(turn), "this one is ours");
    source
        .bury(put_off, "a bundle of a publisher")
        .await
        .unwrap();

    let mut inspection = rabbit.inspect().await.unwrap();
    let letter = inspection.next().await.unwrap().unwrap();
    assert_eq!(letter.reason(), "a bundle of a publisher");
    let events = letter.events();
    inspection.remove(&letter).await.unwrap();
    inspection.end().await.unwrap();
    rabbit.publisher().publish_events(events).await.unwrap();
    let redriven = take_one(&source).await;
    assert_eq!(redriven.message.writer, Writer::Publisher);
    assert_eq!(redriven.message.content_type.as_deref(), Some(JSON_BUNDLE));
    source.ack(vec![redriven]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hookline_wrote_is_known_after_every_way_back() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let source = rabbit.events(10);
    let turn = Timestamp::from(SystemTime::now()).after(Duration::from_secs(1));
    let events = PublishedEvents {
        body: "[]".into(),
        content_type: Some(JSON_BUNDLE.into()),
        writer: Writer::Hookline,
        trace: None,
        turn: Some(turn),
    };
    rabbit.publisher().publish_events(events).await.unwrap();
    let taken = take_one(&source).await;
    assert_eq!(taken.message.writer, Writer::Hookline);
    source.put_back(vec![taken]).await;
    let put_back = take_one(&source).await;
    let coming = Coming {
        message: put_back.message.clone(),
        returns: 3,
    };
    source.put_off(&[put_back], &[coming]).await.unwrap();
    let put_off = take_one(&source).await;
    assert_eq!(put_off.message.writer, Writer::Hookline);
    assert_eq!((put_off.message.turn, put_off.returns), (Some(turn), 3));
    source.ack(vec![put_off]).await;
}

/// In RabbitMQ 3.10 the broker's own limit would end it one return later, in 4.3 nothing would.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_of_nacks_ends_by_our_own_count() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let source = rabbit.events(1);
    publish(&rabbit.publisher(), 1..2).await.unwrap();
    let looping = tokio::spawn(async move {
        loop {
            let batch = source.take(1).await;
            source.release(batch).await;
        }
    });
    let seen = vhost.stranger().await.get("hookline.events.rejected").await;
    assert_eq!(seen.body, b"1");
    assert_eq!(
        seen.header("x-hookline-reason").as_deref(),
        Some("it came back 50 times and nobody could settle it")
    );
    looping.abort();
}
