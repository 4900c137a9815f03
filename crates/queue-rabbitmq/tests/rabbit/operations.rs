//! Operational events.

use hookline_core::ids::{OperationalEventId, OrganizationId, SubscriptionId};
use hookline_core::operational_events::WebhookDisabled;
use hookline_core::subscription::{DisabledReason, SubscriptionName};
use hookline_core::timestamp::Timestamp;
use lapin::options::QueueDeclareOptions;
use uuid::Uuid;

use crate::broker::Vhost;

fn disabled() -> WebhookDisabled {
    WebhookDisabled {
        id: OperationalEventId(Uuid::from_u128(7)),
        organization: OrganizationId::parse("o").expect("an id"),
        subscription: SubscriptionId(1),
        name: SubscriptionName::parse("n").expect("a name"),
        reason: DisabledReason::Gone,
        at: Timestamp::from_unix_micros(0),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operational_events_reach_queues_by_type_and_no_bound_queue_is_no_error() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let publisher = rabbit.publisher();
    publisher.announce(&[disabled()]).await.unwrap();

    let other_client = vhost.other_client().await;
    let (queue, options) = ("operators", QueueDeclareOptions::durable());
    let none = Default::default;
    let declared = other_client
        .channel
        .queue_declare(queue.into(), options, none());
    declared.await.unwrap();
    let (exchange, key) = ("hookline.operations", "webhook.disabled");
    let options = Default::default();
    let bound =
        other_client
            .channel
            .queue_bind(queue.into(), exchange.into(), key.into(), options, none());
    bound.await.unwrap();
    publisher.announce(&[disabled()]).await.unwrap();
    let seen = other_client.get(queue).await;
    assert_eq!(seen.body, disabled().to_json().into_bytes());
    assert_eq!(*seen.properties.delivery_mode(), Some(2));
    let id = seen.properties.message_id().as_ref().unwrap();
    assert_eq!(id.as_str(), disabled().id.to_string());
}
