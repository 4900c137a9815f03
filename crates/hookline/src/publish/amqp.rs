//! Publishing to RabbitMQ.

use std::error::Error as _;
use std::time::Duration;

use anyhow::Context as _;
use backon::{ExponentialBuilder, Retryable as _};
use hookline_queue::QueueError;
use hookline_queue_rabbitmq::{EventPublisher, RabbitSettings};
use hookline_runtime::settings::SecretUrl;

use crate::publish::lines::NumberedEvent;
use crate::publish::progress::Progress;

/// Events that wait for publisher confirms together.
pub(super) const WINDOW: usize = 500;

const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

const TRIES: usize = 5;

#[derive(Debug)]
pub(super) struct Broker {
    publisher: EventPublisher,
}

impl Broker {
    /// `name` is the flag or the variable of the URL.
    pub(super) async fn connect(name: &str, url: &str) -> anyhow::Result<Self> {
        let url = SecretUrl::of_broker(url).map_err(|why| anyhow::anyhow!("{name} {why}"))?;
        let settings = RabbitSettings {
            url: url.expose().to_owned(),
            name: "hookline publish".to_owned(),
            confirm_timeout: CONFIRM_TIMEOUT,
        };
        let publisher =
            EventPublisher::connect(settings)
                .await
                .map_err(|why| match why.source() {
                    // Its own causes repeat the text.
                    Some(cause) => anyhow::anyhow!("{why}: {cause}"),
                    None => why.into(),
                })?;
        Ok(Self { publisher })
    }

    /// Returns when the broker has confirmed all events. The publisher reconnects, and an event that is published twice
    /// is one event.
    pub(super) async fn publish(
        &self,
        events: &[NumberedEvent<'_>],
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let publish = || {
            let events = events.iter().map(|one| one.event);
            self.publisher.publish(events)
        };
        let waits = ExponentialBuilder::default()
            .with_max_times(TRIES - 1)
            .with_jitter();
        publish
            .retry(waits)
            .when(|why| matches!(why, QueueError::Unavailable(_)))
            .notify(|why: &QueueError, wait| {
                let seconds = wait.as_secs_f64();
                progress.print(&format!("{why}; trying again in {seconds:.1} s"));
            })
            .await
            .context("the broker did not accept the events")
    }

    pub(super) async fn close(self) {
        self.publisher.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_that_breaks_the_brokers_url_is_not_shown() {
        for password in [
            "hunter2%zz",
            "1/hunter2",
            "1@hunter2",
            "hunter2 ",
            "1?hunter2=",
            "#hunter2",
        ] {
            let url = format!("amqp://u:{password}@127.0.0.1:1/v");
            let why = Broker::connect("--amqp", &url).await.unwrap_err();
            let why = format!("{why:#}");
            assert!(
                why.starts_with("--amqp must ") && !why.contains("hunter2"),
                "{why}"
            );
        }
    }
}
