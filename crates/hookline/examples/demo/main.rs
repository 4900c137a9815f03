//! `make demo`: publishes events to standalone mode and shows the signed requests at real receivers.
//!
//! The demo computes the expected deliveries from the events and the subscriptions. It compares them with the requests of
//! the receivers and with the log of the API, and fails where a delivery is missing or a signature does not verify.

mod api;
mod behaviour;
mod bulk_run;
mod colour;
mod intro;
mod ledger;
mod process;
mod receivers;
mod subscriptions;
mod summary;
mod system;
mod verify;
mod wait_idle;
mod walkthrough;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use hookline_core::event::{Event, MissingId};
use hookline_runtime::{shutdown, tls};

use crate::ledger::Ledger;
use crate::receivers::Receivers;
use crate::subscriptions::Subscription;
use crate::summary::Summary;
use crate::system::System;
use crate::walkthrough::Walkthrough;

/// Longer than `hookline dev` takes to stop.
const STOP_WITHIN: Duration = Duration::from_secs(60);

const EVENTS: &str = include_str!("../../../../examples/events.jsonl");

/// The demo leaves nothing running.
const NEXT: &str = "
What next:
  cargo run --locked -p hookline -- dev   the same system to try out; it prints a first command
  README.md, \"A first subscription\"      a receiver, a subscription, an event and its log
  make up                                 the three services on PostgreSQL and RabbitMQ";

#[tokio::main]
async fn main() -> ExitCode {
    tls::use_ring();
    match demo().await {
        Ok(summary) if summary.has_passed() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("\ndemo: failed: {why:#}");
            ExitCode::FAILURE
        }
    }
}

/// Stops the system at the end, also after a failure.
async fn demo() -> anyhow::Result<Summary> {
    let interrupted = shutdown::within(STOP_WITHIN)?.draining;
    let events = events()?;
    intro::title(&events);
    let (system, mut process) = System::start().await?;
    let result = tokio::select! {
        result = run(&system, &events) => result,
        ended = process.ended() => Err(ended),
        () = interrupted.cancelled() => Err(anyhow!("interrupted")),
    };
    let stopped = process.stop().await;
    let summary = result.inspect_err(|_| {
        if !interrupted.is_cancelled() {
            process.show_log();
        }
    })?;
    stopped?;
    summary.show();
    if summary.has_passed() {
        println!("{NEXT}");
    }
    Ok(summary)
}

async fn run(system: &System, events: &[Event]) -> anyhow::Result<Summary> {
    intro::system(system);
    let ledger = Ledger::default();
    let receivers = Receivers::start(&ledger)?;
    intro::receivers(&receivers);
    let subscriptions =
        Subscription::create_all(system, |behaviour| receivers.url(behaviour)).await?;
    intro::subscriptions(&subscriptions);
    ledger.open(&subscriptions, events);

    let mut walkthrough = Walkthrough::new(system, &ledger, &subscriptions, events);
    walkthrough.one_event().await?;
    walkthrough.one_failure().await?;
    let rest = walkthrough.rest();
    bulk_run::publish_and_watch(system, &ledger, &subscriptions, &rest).await?;
    let views = wait_idle::until_idle(system, &ledger, &subscriptions).await?;
    let summary = Summary::of(&ledger, &subscriptions, views, events.len());
    Ok(summary)
}

fn events() -> anyhow::Result<Vec<Event>> {
    EVENTS
        .lines()
        .map(|line| Event::from_json(line.as_bytes(), MissingId::Refused))
        .collect::<Result<_, _>>()
        .context("examples/events.jsonl")
}
