//! The introduction: the system, its receivers and their subscriptions.

use hookline_core::event::Event;

use crate::behaviour::{Behaviour, FAILURES};
use crate::colour::{bold, dim};
use crate::receivers::Receivers;
use crate::subscriptions::{Subscription, TEAM};
use crate::system::{ORGANIZATIONS, RETRY_SECONDS, System};

pub(crate) fn title(events: &[Event]) {
    let what = "Hookline: workflow events become signed webhook deliveries";
    let real = format!(
        "{} events of {}; real HTTP, real signatures",
        events.len(),
        ORGANIZATIONS.join(" and ")
    );
    println!("{}\n{}", bold(what), dim(&real));
}

pub(crate) fn system(system: &System) {
    step(
        1,
        "The system: `hookline dev`, one process, in an empty folder",
    );
    fact("API", &system.url);
    let waits = RETRY_SECONDS.map(|seconds| seconds.to_string()).join(", ");
    fact(
        "retries",
        &format!("after {waits} s, so that this stays short (otherwise 5 s to 24 h)"),
    );
}

pub(crate) fn receivers(receivers: &Receivers) {
    step(2, "Three receivers: HTTP servers of customers");
    for behaviour in Behaviour::ALL {
        let does = match behaviour {
            Behaviour::Healthy => "answers 200 to everything".to_owned(),
            Behaviour::Flaky => {
                format!("answers 500 to the first {FAILURES} tries, then 200")
            }
            Behaviour::Leaving => "answers 410 Gone".to_owned(),
        };
        fact(
            behaviour.name(),
            &format!("{}  {does}", receivers.url(behaviour)),
        );
    }
}

/// Shows the subscriptions of one organization. The others are the same.
pub(crate) fn subscriptions(subscriptions: &[Subscription]) {
    step(
        3,
        "POST /v1/webhooks: each organization subscribes with each receiver",
    );
    for subscription in subscriptions.iter().take(Behaviour::ALL.len()) {
        let events: Vec<&str> = subscription
            .events
            .iter()
            .map(|event| event.as_str())
            .collect();
        let events = match events.len() {
            1 | 2 => events.join(", "),
            all => format!("all {all} event types"),
        };
        let secret = match subscription.has_team_header {
            true => format!("plain secret, header {}", TEAM.0),
            false => "secret whsec_… (Standard Webhooks)".to_owned(),
        };
        fact(
            subscription.behaviour.name(),
            &format!("{events}; {secret}"),
        );
    }
}

pub(crate) fn step(number: u32, what: &str) {
    println!("\n{}", bold(&format!("{number}. {what}")));
}

fn fact(name: &str, what: &str) {
    println!("   {name:<9}{what}");
}
