//! `make demo`: the embedded system with real receivers, from an event that goes in to the signed
//! requests that come out.
//!
//! The demo works out by itself what is owed, from the events and the subscriptions, and compares
//! it with what the receivers got and with what the API's log says. So its account is a check
//! and not a claim: it fails when anything was lost or a signature did not verify.

mod account;
mod api;
mod cast;
mod ink;
mod ledger;
mod motion;
mod process;
mod receivers;
mod settle;
mod story;
mod subscriptions;
mod system;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use hookline_core::event::{Event, MissingId};
use hookline_runtime::{shutdown, tls};

use crate::account::Account;
use crate::ledger::Ledger;
use crate::receivers::Receivers;
use crate::story::Story;
use crate::subscriptions::Subscription;
use crate::system::System;

/// More than the system that it has started takes to stop.
const STOP_WITHIN: Duration = Duration::from_secs(60);

const EVENTS: &str = include_str!("../../../../examples/events.jsonl");

/// What to do after the demo, which leaves nothing running.
const NEXT: &str = "
What next:
  cargo run --locked -p hookline -- dev   the same system to try out; it prints a first command
  README.md, \"A first subscription\"      a receiver, a subscription, an event and its log
  make up                                 the three services on PostgreSQL and RabbitMQ";

#[tokio::main]
async fn main() -> ExitCode {
    tls::use_ring();
    match demo().await {
        Ok(account) if account.is_balanced() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("\ndemo: failed: {why:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever happens in between, the system is stopped at the end.
async fn demo() -> anyhow::Result<Account> {
    let interrupted = shutdown::within(STOP_WITHIN)?.draining;
    let events = events()?;
    cast::title(&events);
    let (system, mut process) = System::start().await?;
    let told = tokio::select! {
        told = tell(&system, &events) => told,
        ended = process.ended() => Err(ended),
        () = interrupted.cancelled() => Err(anyhow!("interrupted")),
    };
    let stopped = process.stop().await;
    let account = told.inspect_err(|_| {
        if !interrupted.is_cancelled() {
            process.show_log();
        }
    })?;
    stopped?;
    account.show();
    if account.is_balanced() {
        println!("{NEXT}");
    }
    Ok(account)
}

async fn tell(system: &System, events: &[Event]) -> anyhow::Result<Account> {
    cast::system(system);
    let ledger = Ledger::default();
    let receivers = Receivers::start(&ledger)?;
    cast::receivers(&receivers);
    let subscriptions = Subscription::create_all(system, &receivers).await?;
    cast::subscriptions(&subscriptions);
    ledger.open(&subscriptions, events);

    let mut story = Story::new(system, &ledger, &subscriptions, events);
    story.one_event().await?;
    story.one_failure().await?;
    let rest = story.rest();
    motion::publish_and_watch(system, &ledger, &subscriptions, &rest).await?;
    let states = settle::until_settled(system, &ledger, &subscriptions).await?;
    let account = Account::draw_up(&ledger, &subscriptions, states, events.len());
    receivers.stop().await;
    Ok(account)
}

fn events() -> anyhow::Result<Vec<Event>> {
    EVENTS
        .lines()
        .map(|line| Event::from_json(line.as_bytes(), MissingId::Refused))
        .collect::<Result<_, _>>()
        .context("examples/events.jsonl")
}
