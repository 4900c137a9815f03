//! The rates of this machine without Hookline: the same requests and messages, sent directly.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, interval};

use crate::event::{Moment, event, read};

/// Concurrent requests.
const CONNECTIONS: usize = 64;

/// Messages without a confirm at a time, and messages in one ack at most.
const WINDOW: usize = 2_000;
const ACK_EACH: u64 = 100;

const QUEUE: &str = "bench.relay";

/// A loop of bare POST requests.
#[derive(Debug, clap::Args)]
pub struct Post {
    /// The URL of the receiver
    #[arg(long)]
    url: String,
    /// The number of requests
    #[arg(long)]
    count: u64,
    /// Requests per second; by default as fast as they are answered
    #[arg(long)]
    rate: Option<u32>,
}

impl Post {
    /// Sends the requests, and prints their rate per second.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = hookline_testkit::http::http_client();
        let begun = Instant::now();
        let mut interval = self.rate.map(interval_of);
        let mut posting = FuturesUnordered::new();
        for number in 0..self.count {
            if let Some(interval) = &mut interval {
                interval.tick().await;
            }
            if posting.len() == CONNECTIONS
                && let Some(done) = posting.next().await
            {
                posted(done)?;
            }
            let body = event("org", "workflow.started", number, Moment::now());
            let request = client.post(&self.url).body(body).send();
            posting.push(tokio::spawn(async move {
                let response = request.await?.error_for_status()?;
                response.bytes().await
            }));
        }
        while let Some(done) = posting.next().await {
            posted(done)?;
        }
        println!("{}", self.count as f64 / begun.elapsed().as_secs_f64());
        Ok(())
    }
}

fn posted<T>(done: Result<reqwest::Result<T>, tokio::task::JoinError>) -> anyhow::Result<()> {
    done??;
    Ok(())
}

/// Messages through a quorum queue, published with confirms and consumed with acks.
#[derive(Debug, clap::Args)]
pub struct Relay {
    /// The URL of the broker
    #[arg(long)]
    amqp: String,
    /// The number of messages
    #[arg(long)]
    count: u64,
    /// Messages per second; by default as fast as they are accepted
    #[arg(long)]
    rate: Option<u32>,
}

/// The output of a relay at its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Relayed {
    /// Messages per second.
    pub per_second: f64,
    /// Microseconds from publication to consumer, of each message.
    pub latencies: Vec<u32>,
}

impl Relay {
    /// Publishes and consumes the messages, and prints [`Relayed`].
    pub async fn run(self) -> anyhow::Result<()> {
        let connection = Connection::connect(&self.amqp, ConnectionProperties::default()).await?;
        let (publishing, consuming) = (
            connection.create_channel().await?,
            connection.create_channel().await?,
        );
        let mut quorum = FieldTable::default();
        quorum.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        publishing
            .queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), quorum)
            .await?;
        publishing
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let begun = Instant::now();
        let ((), latencies) = tokio::try_join!(
            publish(&publishing, self.count, self.rate),
            consume(&consuming, self.count)
        )?;
        let relayed = Relayed {
            per_second: self.count as f64 / begun.elapsed().as_secs_f64(),
            latencies,
        };
        println!("{}", serde_json::to_string(&relayed)?);
        Ok(())
    }
}

fn interval_of(rate: u32) -> Interval {
    interval(Duration::from_secs(1) / rate)
}

async fn publish(channel: &Channel, count: u64, rate: Option<u32>) -> anyhow::Result<()> {
    let mut interval = rate.map(interval_of);
    let mut confirming = FuturesUnordered::new();
    for number in 0..count {
        if let Some(interval) = &mut interval {
            interval.tick().await;
        }
        let body = event("org", "workflow.started", number, Moment::now());
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let confirm = channel.basic_publish(
            "".into(),
            QUEUE.into(),
            options,
            body.as_bytes(),
            properties,
        );
        confirming.push(confirm.await?);
        if confirming.len() >= WINDOW
            && let Some(confirmed) = confirming.next().await
        {
            ensure!(
                matches!(confirmed?, Confirmation::Ack(None)),
                "a message was not confirmed"
            );
        }
    }
    while let Some(confirmed) = confirming.next().await {
        ensure!(
            matches!(confirmed?, Confirmation::Ack(None)),
            "a message was not confirmed"
        );
    }
    Ok(())
}

async fn consume(channel: &Channel, count: u64) -> anyhow::Result<Vec<u32>> {
    channel.basic_qos(1_000, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel
        .basic_consume(QUEUE.into(), "".into(), options, FieldTable::default())
        .await?;
    let mut latencies = Vec::new();
    for number in 1..=count {
        let Some(delivery) = consumer.next().await else {
            anyhow::bail!("the broker has ended the consumer");
        };
        let delivery = delivery?;
        let (_, sent) = read(&delivery.data)?;
        latencies.push(Moment::now().micros_since(sent));
        if number % ACK_EACH == 0 || number == count {
            delivery.ack(BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(latencies)
}
