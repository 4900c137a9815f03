//! Publishing to RabbitMQ, as a workflow service does.

use std::time::Duration;

use anyhow::Context as _;
use backon::{ExponentialBuilder, Retryable as _};
use hookline_broker::contract::QueueError;
use hookline_broker::rabbit::{Rabbit, RabbitSettings};

use crate::publish::Numbered;
use crate::publish::progress::Progress;

/// Events that await their confirms together.
pub(super) const WINDOW: usize = 500;

const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

const TRIES: usize = 5;

/// A broker that is connected.
#[derive(Debug)]
pub(super) struct Broker {
    rabbit: Rabbit,
}

impl Broker {
    pub(super) async fn connect(url: String) -> anyhow::Result<Self> {
        let settings = RabbitSettings {
            url,
            name: "hookline publish".to_owned(),
            confirm_timeout: CONFIRM_TIMEOUT,
        };
        let rabbit = Rabbit::connect(settings).await?;
        Ok(Self { rabbit })
    }

    /// Returns once the broker has confirmed all of them. A lost connection mends itself meanwhile,
    /// and an event that goes in twice is one event.
    pub(super) async fn publish(&self, events: &[Numbered<'_>], progress: &Progress) -> anyhow::Result<()> {
        let publish = || interim(&self.rabbit, events);
        publish
            .retry(ExponentialBuilder::default().with_max_times(TRIES - 1).with_jitter())
            .notify(|why: &QueueError, wait| {
                progress.say(&format!("{why}; trying again in {:.0?}", wait));
            })
            .await
            .context("the broker did not take the events")
    }

    pub(super) async fn close(self) {
        self.rabbit.close().await;
    }
}

// INTERIM until the broker has its call.
async fn interim(rabbit: &Rabbit, events: &[Numbered<'_>]) -> Result<(), QueueError> {
    for one in events {
        rabbit.publisher().publish_events(hookline_broker::contract::PublishedEvents {
            body: one.event.body.clone(), content_type: Some("application/json".into()), trace: None }).await?;
    }
    Ok(())
}
