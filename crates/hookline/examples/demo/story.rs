//! What happens, told by single events: one that arrives, one that is tried again. The rest is
//! for [`motion`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hookline_core::event::Event;
use hookline_core::event_type::EventType;

use crate::api::LogEntry;
use crate::cast::step;
use crate::ink::{cyan, dim, green, red, yellow};
use crate::ledger::{Ledger, Proof, SHOWN};
use crate::motion;
use crate::receivers::Manner;
use crate::subscriptions::Subscription;
use crate::system::System;

/// How long one delivery may take, its retries included.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// How much of a body fits on a line, and of a signature beside its name.
const BODY: usize = 76;
const VALUE: usize = 36;

/// Tells of some events one by one and leaves the rest.
pub(crate) struct Story<'a> {
    system: &'a System,
    ledger: &'a Ledger,
    subscriptions: &'a [Subscription],
    events: Vec<&'a Event>,
}

impl<'a> Story<'a> {
    pub(crate) fn new(
        system: &'a System,
        ledger: &'a Ledger,
        subscriptions: &'a [Subscription],
        events: &'a [Event],
    ) -> Self {
        let events = events.iter().collect();
        Self {
            system,
            ledger,
            subscriptions,
            events,
        }
    }

    /// One event goes in, and its delivery is looked at closely.
    pub(crate) async fn one_event(&mut self) -> anyhow::Result<()> {
        let (event, subscription) = self.take(EventType::WorkflowCompleted, Manner::Healthy)?;
        step(4, "POST /v1/events: an event goes in");
        let body = std::str::from_utf8(&event.body)?;
        println!("   {}", cyan(&shortened(body, BODY)));
        let published = Instant::now();
        self.publish(subscription, event).await?;
        let proof = self.proof(&subscription.delivery_of(event)).await?;
        let took = proof.arrived.saturating_duration_since(published);
        let took = format!("{} ms later a signed request is at", took.as_millis());
        println!("   {took} {}", cyan(&subscription.url));

        let verified = green("✔ verified");
        let notes = [
            dim("same on each retry"),
            dim("of this attempt"),
            verified.clone(),
            verified,
        ];
        for ((name, value), note) in SHOWN.iter().zip(proof.headers).zip(notes) {
            println!("   {name:<20} {:<VALUE$}  {note}", shortened(&value, VALUE));
        }
        let bytes = format!("{} bytes", body.len());
        println!(
            "   {:<20} {bytes:<VALUE$}  {}",
            "body",
            green("✔ as published")
        );
        Ok(())
    }

    /// One event goes to the flaky receiver, and the log says what becomes of it.
    pub(crate) async fn one_failure(&mut self) -> anyhow::Result<()> {
        let (event, subscription) = self.take(EventType::WorkflowFailed, Manner::Flaky)?;
        step(
            5,
            "What fails is tried again: a workflow.failed for the flaky receiver",
        );
        self.publish(subscription, event).await?;
        let path = format!("GET /v1/webhooks/{}/logs", subscription.id);
        println!("   {}", dim(&path));
        self.tell_log(subscription, &subscription.delivery_of(event))
            .await
    }

    /// What has not been published yet.
    pub(crate) fn rest(self) -> Vec<&'a Event> {
        let requests = motion::batches(&self.events).len();
        let count = self.events.len();
        step(
            6,
            &format!("The other {count} events, in {requests} requests"),
        );
        self.events
    }

    /// The first event of this type that goes to a receiver of this manner, and the subscription.
    fn take(
        &mut self,
        event_type: EventType,
        manner: Manner,
    ) -> anyhow::Result<(&'a Event, &'a Subscription)> {
        let wanting = |event: &Event| {
            let mut all = self.subscriptions.iter();
            all.find(|subscription| subscription.manner == manner && subscription.wants(event))
        };
        let mut events = self.events.iter().enumerate();
        let found = events.find_map(|(index, event)| {
            let is_it = event.event_type == event_type;
            Some((index, wanting(event).filter(|_| is_it)?))
        });
        let (index, subscription) = found.context("no event for the story")?;
        Ok((self.events.remove(index), subscription))
    }

    async fn publish(&self, subscription: &Subscription, event: &Event) -> anyhow::Result<()> {
        let api = self.system.api(subscription.organization)?;
        api.publish(&[event]).await
    }

    /// Waits until a delivery has been accepted.
    async fn proof(&self, delivery: &str) -> anyhow::Result<Proof> {
        let began = Instant::now();
        loop {
            if let Some(proof) = self.ledger.proof(delivery) {
                return Ok(proof);
            }
            self.keep_waiting(began, delivery).await?;
        }
    }

    /// Tells each attempt of a delivery once it is in the log, up to the successful one.
    async fn tell_log(&self, subscription: &Subscription, delivery: &str) -> anyhow::Result<()> {
        let api = self.system.api(subscription.organization)?;
        let began = Instant::now();
        let mut told = BTreeSet::new();
        loop {
            let log = api.log_of(subscription.id).await?;
            for entry in log.iter().filter(|entry| entry.delivery_id == delivery) {
                if told.insert(entry.attempt) {
                    println!("   {}", line(entry));
                }
                if entry.is_success {
                    return Ok(());
                }
            }
            self.keep_waiting(began, delivery).await?;
        }
    }

    async fn keep_waiting(&self, since: Instant, delivery: &str) -> anyhow::Result<()> {
        if let Some(complaint) = self.ledger.complaints().first() {
            bail!("a request was not as it should be: {complaint}");
        }
        if since.elapsed() > PATIENCE {
            bail!("delivery {delivery} was not made within {PATIENCE:?}");
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }
}

fn line(entry: &LogEntry) -> String {
    let answer = entry.response_status;
    let answer = answer.map_or("nothing".to_owned(), |status| status.to_string());
    let (status, next) = match (entry.is_success, &entry.next_attempt_at) {
        (true, _) => (green("success"), String::new()),
        (false, Some(next)) => (yellow("failed"), format!("next at {}", time_of(next))),
        (false, None) => (red("failed"), "given up".to_owned()),
    };
    let LogEntry {
        attempt,
        trigger,
        created_at,
        ..
    } = entry;
    let at = time_of(created_at);
    let line = format!(
        "attempt {attempt}  {trigger:<5}  {at}  answered {answer}  {status}  {}",
        dim(&next)
    );
    line.trim_end().to_owned()
}

/// The time of day, with tenths of a second.
fn time_of(timestamp: &str) -> String {
    let time = timestamp
        .split_once('T')
        .map_or(timestamp, |(_, time)| time);
    let time = time.trim_end_matches('Z');
    let (seconds, part) = time.split_once('.').unwrap_or((time, "0"));
    let tenths: String = part.chars().take(1).collect();
    format!("{seconds}.{tenths}")
}

fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width - 1).collect();
    format!("{kept}…")
}
