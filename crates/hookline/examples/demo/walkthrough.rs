//! Shows two events in detail: one that is delivered, and one that is retried. [`bulk_run`] publishes the others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hookline_core::event::Event;
use hookline_core::event_type::EventType;

use crate::api::LogEntry;
use crate::behaviour::Behaviour;
use crate::bulk_run;
use crate::colour::{cyan, dim, green, red, yellow};
use crate::intro::step;
use crate::ledger::{Ledger, Proof, SHOWN};
use crate::subscriptions::Subscription;
use crate::system::System;

/// The time limit of one delivery with its retries.
const TIMEOUT: Duration = Duration::from_secs(20);
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Characters of a body on a line, and of a header beside its name.
const BODY: usize = 76;
const VALUE: usize = 36;

pub(crate) struct Walkthrough<'a> {
    system: &'a System,
    ledger: &'a Ledger,
    subscriptions: &'a [Subscription],
    events: Vec<&'a Event>,
}

impl<'a> Walkthrough<'a> {
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

    /// Publishes one event and shows its signed request.
    pub(crate) async fn one_event(&mut self) -> anyhow::Result<()> {
        let (event, subscription) = self.take(EventType::WorkflowCompleted, Behaviour::Healthy)?;
        step(4, "POST /v1/events: publish an event");
        let body = std::str::from_utf8(&event.body)?;
        println!("   {}", cyan(&shortened(body, BODY)));
        let published = Instant::now();
        self.publish(subscription, event).await?;
        let proof = self.proof(&subscription.delivery_of(event)).await?;
        let took = proof.arrived.saturating_duration_since(published);
        let took = format!("{} ms later a signed request arrives at", took.as_millis());
        println!("   {took} {}", cyan(&subscription.url));

        let verified = green("✔ verified");
        let notes = [
            dim("the same for each retry"),
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

    /// Publishes one event for the flaky receiver and shows its attempts.
    pub(crate) async fn one_failure(&mut self) -> anyhow::Result<()> {
        let (event, subscription) = self.take(EventType::WorkflowFailed, Behaviour::Flaky)?;
        step(5, "Retries: a workflow.failed for the flaky receiver");
        self.publish(subscription, event).await?;
        let path = format!("GET /v1/webhooks/{}/logs", subscription.id);
        println!("   {}", dim(&path));
        self.show_log(subscription, &subscription.delivery_of(event))
            .await
    }

    /// The events that are not published yet.
    pub(crate) fn rest(self) -> Vec<&'a Event> {
        let requests = bulk_run::batches(&self.events).len();
        let count = self.events.len();
        step(
            6,
            &format!("The other {count} events, in {requests} requests"),
        );
        self.events
    }

    /// Takes the first event of this type with a subscription of this behaviour.
    fn take(
        &mut self,
        event_type: EventType,
        behaviour: Behaviour,
    ) -> anyhow::Result<(&'a Event, &'a Subscription)> {
        let wanting = |event: &Event| {
            let mut all = self.subscriptions.iter();
            all.find(|subscription| {
                subscription.behaviour == behaviour && subscription.wants(event)
            })
        };
        let mut events = self.events.iter().enumerate();
        let found = events.find_map(|(index, event)| {
            let is_it = event.event_type == event_type;
            Some((index, wanting(event).filter(|_| is_it)?))
        });
        let (index, subscription) = found.context("no event for the walkthrough")?;
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

    /// Shows each attempt of a delivery when it is in the log, up to the successful one.
    async fn show_log(&self, subscription: &Subscription, delivery: &str) -> anyhow::Result<()> {
        let api = self.system.api(subscription.organization)?;
        let began = Instant::now();
        let mut shown = BTreeSet::new();
        loop {
            let log = api.log_of(subscription.id).await?;
            for entry in log.iter().filter(|entry| entry.delivery_id == delivery) {
                if shown.insert(entry.attempt) {
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
        if let Some(problem) = self.ledger.problems().first() {
            bail!("a request was not as expected: {problem}");
        }
        if since.elapsed() > TIMEOUT {
            bail!("delivery {delivery} was not made within {TIMEOUT:?}");
        }
        tokio::time::sleep(POLL_EVERY).await;
        Ok(())
    }
}

fn line(entry: &LogEntry) -> String {
    let answer = entry.response_status;
    let answer = answer.map_or("nothing".to_owned(), |status| status.to_string());
    let (status, next) = match (entry.is_success, &entry.next_attempt_at) {
        (true, _) => (green("success"), String::new()),
        (false, Some(next)) => (yellow("failed"), format!("next at {}", time_of(next))),
        (false, None) => (red("failed"), "no more retries".to_owned()),
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
