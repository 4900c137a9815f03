//! `hookline publish`: events from JSON Lines, as a workflow service publishes them or over HTTP.
//!
//! What is no event is named with its line and left out; the others are published. Whoever runs
//! it again after a failure publishes no event twice, as long as the events have their ids.

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
use crate::publish::feed::{Batch, Feed};
use crate::publish::http::{Api, Request};
use crate::publish::lines::{Ids, Rules};
use crate::publish::progress::Progress;
use crate::publish::refusals::Refusals;

/// Where from, and where to.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// JSON Lines: an event on each line; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    to: To,

    /// The API key to publish with; as a variable it is in no list of processes
    #[arg(
        long,
        value_name = "KEY",
        env = "HOOKLINE_API_KEY",
        hide_env_values = true
    )]
    api_key: Option<String>,

    /// Publish the events of this organization and refuse others; without it, over HTTP each event
    /// goes to its own organization
    #[arg(long, value_name = "ID", value_parser = organization)]
    org: Option<OrganizationId>,

    /// Publish every event as one of this organization, whatever its organization_id says
    #[arg(long, value_name = "ID", value_parser = organization, conflicts_with = "org")]
    as_org: Option<OrganizationId>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct To {
    /// Publish to RabbitMQ, such as amqp://user:password@127.0.0.1:5672/%2f; as the variable
    /// HOOKLINE_AMQP_URL, which counts without --http, it is in no list of processes
    #[arg(long, value_name = "URL")]
    amqp: Option<String>,

    /// Publish to the API, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL", requires = "api_key")]
    http: Option<String>,
}

/// The broker's URL where no flag says where to.
const AMQP_URL: &str = "HOOKLINE_AMQP_URL";

/// An event and its line in the input.
#[derive(Debug, Clone, Copy)]
struct Numbered<'a> {
    line: u64,
    event: &'a Event,
}

enum Destination {
    Broker(Broker),
    Api(Api),
}

impl Publish {
    /// Ends with 0 once every event is durable.
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
            (None, Some(url), Some(key)) => Destination::Api(Api::new(&url, &key)?),
            _ => match from_environment() {
                Some(url) => Destination::Broker(Broker::connect(AMQP_URL, &url).await?),
                None => bail!(
                    "say where to: --http URL with the key in HOOKLINE_API_KEY, or the broker's URL in \
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
            let events = self.sort_out(&batch);
            match destination {
                Destination::Broker(broker) => {
                    broker.publish(&events, &self.progress).await?;
                    self.published += events.len() as u64;
                }
                Destination::Api(api) => {
                    for request in Request::all_of(&events) {
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

    /// The events of a batch; what is none is said and counted.
    fn sort_out<'a>(&mut self, batch: &'a Batch) -> Vec<Numbered<'a>> {
        let mut events = Vec::with_capacity(batch.lines.len());
        for line in &batch.lines {
            let wanted = line.event.as_ref().map_err(String::clone);
            match wanted.and_then(|event| self.wanted(event)) {
                Ok(event) => events.push(Numbered {
                    line: line.number,
                    event,
                }),
                Err(why) => {
                    if let Some(said) = self.refused.add(line.number, &why) {
                        self.progress.say(&said);
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
