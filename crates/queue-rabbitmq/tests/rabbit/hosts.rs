//! Clusters: a URL with several hosts.

use std::sync::Arc;

use hookline_queue::{EventConsumer, PublishedEvents, ReceivedMessage};
use hookline_queue_rabbitmq::{Rabbit, RabbitError, RabbitSettings};
use tokio::net::TcpListener;
use url::Url;

use crate::broker::{CONFIRM_TIMEOUT, Vhost, eventually, number_of, numbered, receive_one};
use crate::proxy::{Network, Proxy};

/// Nothing listens there.
async fn dead_host() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// The URL with other hosts.
fn with_hosts(url: &Url, hosts: &[String]) -> String {
    let own = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    url.as_str().replacen(&own, &hosts.join(","), 1)
}

fn host_of(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
}

async fn connect(url: String) -> Result<Rabbit, RabbitError> {
    Rabbit::connect(RabbitSettings {
        url,
        name: "test".into(),
        confirm_timeout: CONFIRM_TIMEOUT,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_host_is_skipped_at_the_start_and_after_a_lost_connection() {
    let vhost = Vhost::create();
    let first = Proxy::to(&vhost.url()).await;
    let second = Proxy::to(&vhost.url()).await;
    let hosts = [&first, &second].map(|proxy| host_of(&proxy.url(&vhost.url())));
    let all = [dead_host().await, hosts[0].clone(), hosts[1].clone()];
    let rabbit = connect(with_hosts(&vhost.url(), &all)).await.unwrap();
    let (publisher, consumer) = (rabbit.publisher(), rabbit.events(10));
    for (number, dies) in [(1, &first), (2, &second)] {
        dies.set(Network::Cut);
        eventually(async || {
            publisher.publish_events(numbered(number)).await.is_ok() && rabbit.is_ready()
        })
        .await;
        // The first attempt may have succeeded although its connection ended.
        let received = eventually_received(&consumer, number).await;
        consumer.ack(vec![received]).await;
        dies.set(Network::Passing);
    }
}

async fn eventually_received(
    consumer: &Arc<dyn EventConsumer>,
    number: u32,
) -> ReceivedMessage<PublishedEvents> {
    loop {
        let received = receive_one(consumer).await;
        if number_of(&received) == number {
            return received;
        }
        consumer.ack(vec![received]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_each_failed_host_and_not_the_password() {
    let vhost = Vhost::create();
    let (first, second) = (dead_host().await, dead_host().await);
    let mut url = vhost.url();
    url.set_password(Some("hunter2")).unwrap();
    let refusing = host_of(&url);
    let all = [first.clone(), second.clone(), refusing.clone()];
    let error = connect(with_hosts(&url, &all)).await.unwrap_err();
    let message = format!("{error} {error:?}");
    for host in all {
        assert!(
            message.contains(&format!("{host}: ")),
            "{host} is not in {message}"
        );
    }
    assert!(message.contains("ACCESS_REFUSED"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}
