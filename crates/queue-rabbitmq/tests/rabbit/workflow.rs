//! `hookline publish`, which publishes as a workflow service does.

use hookline_core::event::{Event, MissingId};
use hookline_queue::QueueError;
use hookline_queue_rabbitmq::{EventPublisher, RabbitSettings};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};

use crate::broker::{CONFIRM_TIMEOUT, Vhost, receive_all, receive_one};

fn event(id: u32, event_type: &str) -> Event {
    let json = format!(
        r#"{{"event_id":"{id}","event_type":"{event_type}","workflow_id":"w","organization_id":"o","timestamp":"2025-12-21T10:30:00Z","data":{{}}}}"#
    );
    Event::from_json(json.as_bytes(), MissingId::Refused).expect("an event")
}

async fn publisher(vhost: &Vhost) -> EventPublisher {
    EventPublisher::connect(RabbitSettings {
        url: vhost.url().to_string(),
        name: "test".into(),
        confirm_timeout: CONFIRM_TIMEOUT,
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_declares_nothing_and_reports_a_missing_exchange() {
    let vhost = Vhost::create();
    let refused = EventPublisher::connect(RabbitSettings {
        url: vhost.url().to_string(),
        name: "test".into(),
        confirm_timeout: CONFIRM_TIMEOUT,
    })
    .await
    .unwrap_err();
    assert!(refused.is_refusal(), "{refused}");
    assert!(
        refused.to_string().contains("run `hookline migrate`"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_call_are_confirmed_together_and_arrive_in_order() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let events: Vec<_> = (0..500).map(|id| event(id, "workflow.started")).collect();
    publisher(&vhost).await.publish(&events).await.unwrap();
    let received = receive_all(&rabbit.events(500), 500).await;
    let arrived: Vec<_> = received
        .iter()
        .map(|received| &received.message.body)
        .collect();
    let sent: Vec<_> = events.iter().map(|event| &event.body).collect();
    assert_eq!(arrived, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_queues_on_the_exchange_get_events_by_type_as_persistent_json() {
    let vhost = Vhost::create();
    let _declared = vhost.connect().await;
    let other_client = vhost.other_client().await;
    let (queue, failed) = ("others", "workflow.step.failed");
    let (options, none) = (QueueDeclareOptions::durable(), Default::default());
    let declared = other_client
        .channel
        .queue_declare(queue.into(), options, none);
    declared.await.unwrap();
    let (exchange, options) = ("workflow.events", Default::default());
    let bound = other_client.channel.queue_bind(
        queue.into(),
        exchange.into(),
        failed.into(),
        options,
        Default::default(),
    );
    bound.await.unwrap();

    let events = [event(1, "workflow.started"), event(2, failed)];
    publisher(&vhost).await.publish(&events).await.unwrap();
    let seen = other_client.get(queue).await;
    assert_eq!(seen.body, events[1].body);
    assert_eq!(*seen.properties.delivery_mode(), Some(2));
    let content_type = seen.properties.content_type().as_ref();
    assert_eq!(content_type.unwrap().as_str(), "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_an_event_that_no_queue_takes_fails() {
    let vhost = Vhost::create();
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let (exchange, kind) = ("workflow.events", ExchangeKind::Topic);
    let other_client = vhost.other_client().await;
    let plain =
        other_client
            .channel
            .exchange_declare(exchange.into(), kind, durable, Default::default());
    plain.await.unwrap();
    let rabbit = vhost.connect().await;
    vhost.ctl("delete_queue", &["hookline.events"]);

    let events = [event(1, "workflow.started")];
    let publisher = publisher(&vhost).await;
    let refused = publisher.publish(&events).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))));

    // A service declares the queue again, never the publisher.
    vhost.connect().await.close().await;
    publisher.publish(&events).await.unwrap();
    assert_eq!(
        receive_one(&rabbit.events(1)).await.message.body,
        events[0].body
    );
}
