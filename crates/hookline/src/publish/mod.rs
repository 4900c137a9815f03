//! `hookline publish`: publishes events from JSON Lines, over AMQP as a workflow service does, or over HTTP.
//!
//! A line that is no event is reported and skipped. Publishing again after a failure is idempotent where the events
//! have ids.

mod amqp;
mod feed;
mod http;
mod lines;
mod progress;
mod refusals;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use hookline_core::event::Event;
use hookline_core::ids::OrganizationId;

use crate::dev::organization;
use crate::publish::amqp::Broker;
use crate::publish::feed::{Feed, LineBatch};
use crate::publish::http::{EventsClient, PublishRequest};
use crate::publish::lines::{Ids, NumberedEvent, Rules};
use crate::publish::progress::Progress;
use crate::publish::refusals::Refusals;

#[derive(Debug, Args)]
pub(crate) struct PublishCommand {
    /// JSON Lines, one event on each line; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    to: To,

    /// The API key. The variable keeps it out of process lists
    #[arg(
        long,
        value_name = "KEY",
        env = "HOOKLINE_API_KEY",
        hide_env_values = true
    )]
    api_key: Option<String>,

    /// Publish only events of this organization and refuse others [default: publish each event to its own
    /// organization]
    #[arg(long, value_name = "ID", value_parser = organization)]
    org: Option<OrganizationId>,

    /// Replace the organization_id of every event
    #[arg(long, value_name = "ID", value_parser = organization, conflicts_with = "org")]
    as_org: Option<OrganizationId>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct To {
    /// Publish to RabbitMQ, such as amqp://user:password@127.0.0.1:5672/%2f. Without --http, the variable
    /// HOOKLINE_AMQP_URL does the same and keeps the URL out of process lists
    #[arg(long, value_name = "URL")]
    amqp: Option<String>,

    /// Publish to the API, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL", requires = "api_key")]
    http: Option<String>,
}

/// The variable with the broker's URL, read where no flag names a destination.
const AMQP_URL: &str = "HOOKLINE_AMQP_URL";

enum Destination {
    Broker(Broker),
    Api(EventsClient),
}

impl PublishCommand {
    /// The exit status is 0 where every line was published and is durable.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let destination = self.to.destination(self.api_key).await?;
        let rules = Rules {
            ids: destination.ids(),
            organization: self.as_org,
        };
        let feed = Feed::open(&self.file, rules)?;
        let mut publishing = Publishing {
            only: self.org,
            progress: Progress::begin(feed.bytes),
            published: 0,
            refused: Refusals::default(),
        };
        let ended = publishing.all(feed, &destination).await;
        let Publishing {
            published,
            refused,
            progress,
            ..
        } = publishing;
        drop(progress);
        for line in refused.rest() {
            eprintln!("{line}");
        }
        if let Destination::Broker(broker) = destination {
            broker.close().await;
        }
        println!("published {published} events");
        ended?;
        Ok(if refused.count == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl To {
    async fn destination(self, api_key: Option<String>) -> anyhow::Result<Destination> {
        let from_environment = || std::env::var(AMQP_URL).ok().filter(|url| !url.is_empty());
        Ok(match (self.amqp, self.http, api_key) {
            (Some(url), _, _) => Destination::Broker(Broker::connect("--amqp", &url).await?),
            (None, Some(url), Some(key)) => Destination::Api(EventsClient::new(&url, &key)?),
            _ => match from_environment() {
                Some(url) => Destination::Broker(Broker::connect(AMQP_URL, &url).await?),
                None => bail!(
                    "name a destination: --http URL with the key in HOOKLINE_API_KEY, or the broker's URL in \
                     {AMQP_URL}"
                ),
            },
        })
    }
}

impl Destination {
    fn ids(&self) -> Ids {
        match self {
            Self::Broker(_) => Ids::Required,
            Self::Api(_) => Ids::Given,
        }
    }

    fn window(&self) -> usize {
        match self {
            Self::Broker(_) => amqp::WINDOW,
            Self::Api(_) => http::WINDOW,
        }
    }
}

struct Publishing {
    only: Option<OrganizationId>,
    progress: Progress,
    published: u64,
    refused: Refusals,
}

impl Publishing {
    async fn all(&mut self, mut feed: Feed, destination: &Destination) -> anyhow::Result<()> {
        while let Some(batch) = feed.next(destination.window()).await? {
            let events = self.accepted(&batch);
            match destination {
                Destination::Broker(broker) => {
                    broker.publish(&events, &self.progress).await?;
                    self.published += events.len() as u64;
                }
                Destination::Api(api) => {
                    for request in PublishRequest::split(&events) {
                        api.publish(&request, &self.progress).await?;
                        self.published += request.len() as u64;
                    }
                }
            }
            let end = batch.lines.last().map_or(0, |line| line.end);
            self.progress.show(self.published, end);
        }
        Ok(())
    }

    /// The events of a batch. Refused lines are counted, and the first ones are shown.
    fn accepted<'a>(&mut self, batch: &'a LineBatch) -> Vec<NumberedEvent<'a>> {
        let mut events = Vec::with_capacity(batch.lines.len());
        for line in &batch.lines {
            let wanted = line.event.as_ref().map_err(String::clone);
            match wanted.and_then(|event| self.wanted(event)) {
                Ok(event) => events.push(NumberedEvent {
                    line: line.number,
                    event,
                }),
                Err(why) => {
                    if let Some(shown) = self.refused.add(line.number, &why) {
                        self.progress.print(&shown);
                    }
                }
            }
        }
        events
    }

    fn wanted<'a>(&self, event: &'a Event) -> Result<&'a Event, String> {
        match &self.only {
            Some(only) if *only != event.organization => Err(format!(
                "organization_id: is {}, and --org is {only}",
                event.organization
            )),
            _ => Ok(event),
        }
    }
}
