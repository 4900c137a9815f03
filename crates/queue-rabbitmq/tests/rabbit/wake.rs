//! Wake-ups: hints that deliveries of a partition are due.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_core::partition::{Partition, Partitions};
use hookline_core::wire::WakeUp;
use hookline_queue::{Publisher, QueueError, Scheduled, WakeUps};
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ExchangeDeleteOptions};
use tokio::sync::watch;
use uuid::Uuid;

use crate::broker::{OtherClient, Vhost, connect, eventually, within_patience};
use crate::proxy::{Network, Proxy};

const NOW: Duration = Duration::ZERO;

fn four() -> watch::Receiver<Partitions> {
    watch::channel(Partitions::new(4).unwrap()).1
}

/// A delivery of this subscription, identified by the number.
fn due(subscription: i64, number: u32, delay: Duration) -> Scheduled {
    let task = AttemptTask {
        delivery: DeliveryId(Uuid::from_u128(u128::from(number))),
        generation: 0,
        attempt: 1,
        subscription: SubscriptionId(subscription),
    };
    Scheduled { task, delay }
}

async fn listen(wake_ups: &Arc<dyn WakeUps>, partitions: &[u16]) {
    wake_ups.listen(partitions.iter().copied().map(Partition).collect());
    eventually(async || wake_ups.is_ready()).await;
}

/// The wake-ups that arrive up to this delivery.
async fn received_up_to(wake_ups: &Arc<dyn WakeUps>, last: AttemptTask) -> HashSet<AttemptTask> {
    let mut received = HashSet::new();
    within_patience(async {
        while !received.contains(&last) {
            received.extend(wake_ups.next().await);
        }
    })
    .await;
    received.remove(&last);
    received
}

/// Publishes wake-ups until one arrives.
async fn eventually_received(publisher: &Arc<dyn Publisher>, wake_ups: &Arc<dyn WakeUps>) {
    let expected = due(0, Uuid::new_v4().as_fields().0, NOW);
    eventually(async || {
        publisher.wake(&[expected]);
        let next = tokio::time::timeout(Duration::from_millis(100), wake_ups.next()).await;
        next.is_ok_and(|received| received.contains(&expected.task))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_arrives_only_at_the_owner_of_its_partition() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (even, odd) = (rabbit.wake_ups(), vhost.connect().await.wake_ups());
    listen(&even, &[0, 2]).await;
    listen(&odd, &[1, 3]).await;
    let publisher = rabbit.waking_publisher(four());
    let subscriptions: Vec<Scheduled> = (0..1000)
        .map(|number| due(number.into(), number, NOW))
        .collect();
    publisher.wake(&subscriptions);
    let (last_even, last_odd) = (due(8, 2000, NOW), due(9, 2001, NOW));
    // A message for each partition, and in each queue behind all others.
    publisher.wake(&[last_even, last_odd]);
    for (wake_ups, last, rest) in [(even, last_even, 0), (odd, last_odd, 1)] {
        let received = received_up_to(&wake_ups, last.task).await;
        let expected = subscriptions.iter().map(|due| due.task);
        let expected = expected.filter(|task| task.subscription.0 % 2 == rest);
        assert_eq!(received, expected.collect());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wake_ups_follow_a_partition_to_its_next_owner_and_a_new_number_of_partitions() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (first, second) = (rabbit.wake_ups(), rabbit.wake_ups());
    listen(&first, &[0, 1]).await;
    let (number, partitions) = watch::channel(Partitions::new(4).unwrap());
    let publisher = rabbit.waking_publisher(partitions);
    publisher.wake(&[due(1, 1, NOW)]);
    assert!(received_up_to(&first, due(1, 1, NOW).task).await.is_empty());

    listen(&first, &[0]).await;
    listen(&second, &[1]).await;
    publisher.wake(&[due(1, 2, NOW)]);
    assert!(
        received_up_to(&second, due(1, 2, NOW).task)
            .await
            .is_empty()
    );
    publisher.wake(&[due(4, 3, NOW)]);
    assert!(received_up_to(&first, due(4, 3, NOW).task).await.is_empty());

    // Subscription 4 is in partition 1 of three.
    number.send_replace(Partitions::new(3).unwrap());
    publisher.wake(&[due(4, 4, NOW)]);
    assert!(
        received_up_to(&second, due(4, 4, NOW).task)
            .await
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_wake_up_comes_after_its_delay_also_beside_one_without_an_owner() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let wake_ups = rabbit.wake_ups();
    listen(&wake_ups, &[1]).await;
    let publisher = rabbit.waking_publisher(four());
    let published = Instant::now();
    // No dispatcher listens for the first.
    let delays = [(2, 1, 1_000), (1, 3, 2_100), (1, 2, 1_000), (1, 1, 0)];
    let all = delays.map(|(subscription, number, delay)| {
        due(subscription, number, Duration::from_millis(delay))
    });
    publisher.wake(&all);
    for (number, seconds) in [(1, 0), (2, 1), (3, 3)] {
        let received = within_patience(wake_ups.next()).await;
        let delivery = DeliveryId(Uuid::from_u128(number));
        assert_eq!(
            received
                .iter()
                .map(|task| task.delivery)
                .collect::<Vec<_>>(),
            [delivery]
        );
        assert!(
            published.elapsed() >= Duration::from_secs(seconds),
            "{number} came early"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_wake_ups_never_waits_for_the_broker() {
    let vhost = Vhost::create();
    let proxy = Proxy::to(&vhost.url()).await;
    let mut url = proxy.url(&vhost.url());
    url.set_query(Some("heartbeat=1&connection_timeout=500"));
    let rabbit = connect(&url).await;
    let publisher = rabbit.waking_publisher(four());
    let wake_ups = vhost.connect().await.wake_ups();
    listen(&wake_ups, &[0]).await;
    eventually_received(&publisher, &wake_ups).await;

    let many: Vec<Scheduled> = (0..1000).map(|number| due(0, number, NOW)).collect();
    for network in [Network::Frozen, Network::Cut] {
        proxy.set(network);
        let mut longest = NOW;
        for _ in 0..2_000 {
            let begun = Instant::now();
            publisher.wake(&many);
            longest = longest.max(begun.elapsed());
        }
        assert!(longest < Duration::from_secs(1), "{network:?}: {longest:?}");
        println!("{network:?}: 2000 calls, the longest took {longest:?}");
        proxy.set(Network::Passing);
        eventually_received(&publisher, &wake_ups).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_stops_wake_ups_and_blocks_no_caller() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let publisher = rabbit.waking_publisher(four());
    let wake_ups = rabbit.wake_ups();
    listen(&wake_ups, &[0]).await;
    eventually_received(&publisher, &wake_ups).await;

    vhost.alarm(true);
    let many: Vec<Scheduled> = (0..1000).map(|number| due(0, number, NOW)).collect();
    let mut longest = NOW;
    for _ in 0..2_000 {
        let begun = Instant::now();
        publisher.wake(&many);
        longest = longest.max(begun.elapsed());
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    println!("alarm: 2000 calls, the longest took {longest:?}");
    assert!(wake_ups.is_ready());
    vhost.alarm(false);
    eventually_received(&publisher, &wake_ups).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wake_ups_arrive_again_after_a_lost_connection_and_a_deleted_queue() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, wake_ups) = (rabbit.waking_publisher(four()), rabbit.wake_ups());
    listen(&wake_ups, &[0, 1]).await;
    vhost.close_all_connections();
    eventually_received(&publisher, &wake_ups).await;

    let name = vhost.queue_of_wake_ups();
    vhost.delete_queue(&name);
    eventually_received(&publisher, &wake_ups).await;
    assert_ne!(vhost.queue_of_wake_ups(), name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_declares_the_exchange_of_wake_ups_again() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let publisher = rabbit.waking_publisher(four());
    let other_client = vhost.other_client().await;
    let options = ExchangeDeleteOptions::default();
    let deleted = other_client
        .channel
        .exchange_delete("hookline.wake".into(), options);
    deleted.await.unwrap();
    // The bindings are gone with the exchange, so the listener starts afterwards.
    eventually(async || {
        publisher.wake(&[due(0, 1, NOW)]);
        let options = lapin::options::ExchangeDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let (kind, none) = (lapin::ExchangeKind::Topic, Default::default());
        let other = vhost.other_client().await;
        let found = other
            .channel
            .exchange_declare("hookline.wake".into(), kind, options, none);
        found.await.is_ok()
    })
    .await;
    let wake_ups = rabbit.wake_ups();
    listen(&wake_ups, &[0]).await;
    eventually_received(&publisher, &wake_ups).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_wake_up_is_dropped_and_the_next_one_arrives() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let (publisher, wake_ups) = (rabbit.waking_publisher(four()), rabbit.wake_ups());
    listen(&wake_ups, &[0]).await;
    let other_client = vhost.other_client().await;
    let too_many = WakeUp(vec![due(0, 1, NOW).task; WakeUp::MOST_READ + 1]);
    for body in [b"garbage".to_vec(), too_many.to_wire()] {
        let plain = BasicProperties::default();
        other_client
            .publish("hookline.wake", "0", &body, plain)
            .await;
    }
    publisher.wake(&[due(0, 7, NOW)]);
    assert!(
        received_up_to(&wake_ups, due(0, 7, NOW).task)
            .await
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_of_events_cannot_forge_a_wake_up() {
    let vhost = Vhost::create();
    let _rabbit = vhost.connect().await;
    let user = vhost.user(["^$", r"^workflow\\.events$", "^$"]);
    let other_client = OtherClient::at(&user.url).await;
    let body = WakeUp(vec![due(0, 1, NOW).task]).to_wire();
    let options = BasicPublishOptions::default();
    let plain = BasicProperties::default;
    let (exchange, key) = ("hookline.wake", "0");
    let sent =
        other_client
            .channel
            .basic_publish(exchange.into(), key.into(), options, &body, plain());
    let refused = sent.await.unwrap().await.unwrap_err();
    assert!(refused.to_string().contains("ACCESS_REFUSED"), "{refused}");
}

/// The process does not read, so its socket is full.
#[tokio::test(flavor = "multi_thread")]
async fn the_broker_holds_at_most_2000_messages_for_a_listener_that_does_not_read() {
    let vhost = Vhost::create();
    let proxy = Proxy::to(&vhost.url()).await;
    let rabbit = connect(&proxy.url(&vhost.url())).await;
    let wake_ups = rabbit.wake_ups();
    listen(&wake_ups, &[0]).await;
    proxy.set(Network::Frozen);
    let other_client = vhost.other_client().await;
    // More than the sockets hold. Garbage, so that reading it later takes no time.
    let large = [0; 16 * 1024];
    for _ in 0..3_000 {
        let (exchange, key) = ("hookline.wake".into(), "0".into());
        let (options, plain) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent = other_client
            .channel
            .basic_publish(exchange, key, options, &large, plain);
        sent.await.unwrap();
    }
    other_client.channel.wait_for_confirms().await.unwrap();
    let waiting = vhost.waiting_wake_ups();
    println!("{waiting} messages wait");
    assert!(waiting <= 2_000, "{waiting}");
    // They expire soon.
    eventually(async || vhost.waiting_wake_ups() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_to_publish_and_to_consume_wake_ups_are_known_at_the_start() {
    let vhost = Vhost::create();
    let _declared = vhost.connect().await;
    let written = r"^(amq\\.default|hookline\\.delay\\.\\d+|hookline\\.wake(\\..+)?)$";
    let own = r"^hookline\\.wake\\.dispatcher\\..+$";
    let read = r"^hookline\\.wake(\\.dispatcher\\..+)?$";
    for (rights, may_wake, may_listen) in [
        ([own, written, read], true, true),
        (["^$", written, read], true, false),
        ([own, written, "^$"], true, false),
        (
            [own, r"^(amq\\.default|hookline\\.delay\\.\\d+)$", read],
            false,
            false,
        ),
        (
            [
                own,
                r"^(amq\\.default|hookline\\.(delay|wake)\\.\\d+)$",
                read,
            ],
            false,
            false,
        ),
    ] {
        let user = vhost.user(rights);
        let rabbit = connect(&user.url).await;
        let wake_ups = rabbit.wake_ups();
        let (waking, listening) = (rabbit.check_publishing().await, wake_ups.begin().await);
        assert_eq!(waking.is_ok(), may_wake, "{rights:?}: {waking:?}");
        assert_eq!(listening.is_ok(), may_listen, "{rights:?}: {listening:?}");
        for refused in [waking, listening].into_iter().filter_map(Result::err) {
            assert!(matches!(refused, QueueError::Refused(_)), "{refused}");
            assert!(refused.to_string().contains("hookline.wake"), "{refused}");
        }
        if may_wake && may_listen {
            listen(&wake_ups, &[0]).await;
            eventually_received(&rabbit.waking_publisher(four()), &wake_ups).await;
        }
    }
}
