//! The publisher: a separate process that publishes to the broker or over HTTP, as a workflow service does.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hookline_testkit::publisher::{self, TestPublisher};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::cost::cpu_of_this;
use crate::event::{Moment, event};

/// Messages without a confirm at a time.
const WINDOW: usize = 2_000;

/// Concurrent requests.
const CONNECTIONS: usize = 8;

/// The publisher's process.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
pub struct Publish {
    /// The URL of the broker
    #[arg(long)]
    pub amqp: Option<String>,
    /// The API, such as http://127.0.0.1:8080/v1
    #[arg(long)]
    pub api: Option<String>,
    /// The API's key
    #[arg(long, default_value = "")]
    pub key: String,
    /// The organizations of the events, in turns; all events of one request have the same organization
    #[arg(long, value_delimiter = ',')]
    pub organizations: Vec<String>,
    /// The event types, in turns
    #[arg(long, value_delimiter = ',')]
    pub types: Vec<String>,
    /// The number of the first event
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// The number of events
    #[arg(long)]
    pub count: u64,
    /// Events per second; by default as fast as they are accepted
    #[arg(long)]
    pub rate: Option<u32>,
    /// Events in a request
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
}

/// The publisher's output at its end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Published {
    /// The time of its start.
    pub first: Moment,
    /// The time when the last event was confirmed.
    pub last: Moment,
    /// CPU time in seconds.
    pub cpu: f64,
}

enum Destination {
    Broker(Box<TestPublisher>),
    Api(reqwest::Client),
}

impl Publish {
    /// Publishes all events, and prints [`Published`].
    pub async fn run(self) -> anyhow::Result<()> {
        ensure!(!self.organizations.is_empty() && !self.types.is_empty() && self.batch > 0);
        let destination = match &self.amqp {
            Some(url) => Destination::Broker(Box::new(TestPublisher::connect(url).await?)),
            None => Destination::Api(hookline_testkit::http::http_client()),
        };
        let at_once = match (&destination, self.rate) {
            (_, Some(_)) => usize::MAX,
            (Destination::Broker(_), None) => WINDOW,
            (Destination::Api(_), None) => CONNECTIONS,
        };
        let first = Moment::now();
        let begin = Instant::now();
        let numbers: Vec<u64> = (self.first..self.first + self.count).collect();
        let mut taking = FuturesUnordered::new();
        for (index, numbers) in numbers.chunks(self.batch).enumerate() {
            if let Some(rate) = self.rate {
                let due =
                    begin + Duration::from_secs_f64((index * self.batch) as f64 / f64::from(rate));
                wait_until(due, &mut taking).await?;
            }
            while taking.len() >= at_once {
                taking.next().await.context("nothing is under way")??;
            }
            taking.push(self.publish(&destination, numbers));
            // One poll starts the request now: a future that is not polled does nothing.
            if let Some(done) = futures::FutureExt::now_or_never(taking.next()) {
                done.transpose()?;
            }
        }
        while let Some(done) = taking.next().await {
            done?;
        }
        let published = Published {
            first,
            last: Moment::now(),
            cpu: cpu_of_this()?,
        };
        println!("{}", serde_json::to_string(&published)?);
        Ok(())
    }

    fn of(&self, number: u64) -> (&str, String) {
        let event_type = &self.types[turn(number) % self.types.len()];
        let organization = self.organization_of(number);
        (
            event_type,
            event(organization, event_type, number, Moment::now()),
        )
    }

    fn organization_of(&self, number: u64) -> &str {
        let request = turn(number) / self.batch;
        &self.organizations[request % self.organizations.len()]
    }

    async fn publish(&self, destination: &Destination, numbers: &[u64]) -> anyhow::Result<()> {
        match destination {
            Destination::Broker(publisher) => {
                for number in numbers {
                    let (event_type, event) = self.of(*number);
                    let (body, json) = (event.as_bytes(), publisher::json());
                    let published = publisher.publish(event_type, body, json).await;
                    published.with_context(|| format!("event {number}"))?;
                }
                Ok(())
            }
            Destination::Api(client) => self.to_api(client, numbers).await,
        }
    }

    async fn to_api(&self, client: &reqwest::Client, numbers: &[u64]) -> anyhow::Result<()> {
        let api = self.api.as_deref().context("neither a broker nor an API")?;
        let organization = numbers.first().map(|number| self.organization_of(*number));
        let events: Vec<String> = numbers.iter().map(|number| self.of(*number).1).collect();
        let body = match &*events {
            [one] => one.clone(),
            many => format!("[{}]", many.join(",")),
        };
        let request = client
            .post(format!("{api}/events"))
            .bearer_auth(&self.key)
            .header("content-type", "application/json")
            .header("x-org-id", organization.unwrap_or_default())
            .body(body);
        let response = request.send().await?;
        ensure!(
            response.status() == 202,
            "{}: {}",
            response.status(),
            response.text().await?
        );
        response.bytes().await?;
        Ok(())
    }
}

fn turn(number: u64) -> usize {
    usize::try_from(number).unwrap_or_default()
}

/// Waits until `due`, and polls the requests in flight meanwhile.
async fn wait_until<F>(due: Instant, taking: &mut FuturesUnordered<F>) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let sleep = tokio::time::sleep_until(due);
    tokio::pin!(sleep);
    loop {
        tokio::select! {
            () = &mut sleep => return Ok(()),
            Some(done) = taking.next() => done?,
        }
    }
}
