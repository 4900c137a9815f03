//! Who is there: the first thing that a newcomer reads.

use hookline_core::event::Event;

use crate::ink::{bold, dim};
use crate::receivers::{FAILURES, Manner, Receivers};
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
    step(2, "Three receivers: HTTP servers, as customers have them");
    for manner in Manner::ALL {
        let does = match manner {
            Manner::Healthy => "answers 200 to everything".to_owned(),
            Manner::Flaky => {
                format!("answers 500 to the first {FAILURES} tries, then 200")
            }
            Manner::Leaving => "answers 410: gone for good".to_owned(),
        };
        fact(manner.name(), &format!("{}  {does}", receivers.url(manner)));
    }
}

/// Those of one organization: the others are the same.
pub(crate) fn subscriptions(subscriptions: &[Subscription]) {
    step(
        3,
        "POST /v1/webhooks: each organization subscribes with each of them",
    );
    for subscription in subscriptions.iter().take(Manner::ALL.len()) {
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
        fact(subscription.manner.name(), &format!("{events}; {secret}"));
    }
}

pub(crate) fn step(number: u32, what: &str) {
    println!("\n{}", bold(&format!("{number}. {what}")));
}

fn fact(name: &str, what: &str) {
    println!("   {name:<9}{what}");
}
