//! Expected deliveries and received requests, by `webhook-id`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use actix_web::http::StatusCode;
use hookline_core::event::Event;
use reqwest::header::HeaderMap;

use crate::behaviour::Behaviour;
use crate::subscriptions::Subscription;
use crate::verify::{Verifier, header};

/// Clones share the entries.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    subscriptions: Vec<(Subscription, Verifier)>,
    deliveries: HashMap<String, Delivery>,
    problems: Vec<String>,
}

/// An event that a subscription must receive.
struct Delivery {
    /// The index of the subscription.
    subscription: usize,
    event: Event,
    requests: u32,
    /// Requests that were answered with 200.
    accepted: u32,
    /// Requests up to the first accepted one.
    needed: u32,
    proof: Option<Proof>,
}

/// The last request of a delivery.
#[derive(Debug, Clone)]
pub(crate) struct Proof {
    pub(crate) arrived: Instant,
    /// In the order of [`SHOWN`].
    pub(crate) headers: [String; 4],
}

/// The headers that identify and verify a delivery.
pub(crate) const SHOWN: [&str; 4] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "X-Webhook-Signature",
];

/// The counts of one subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Events that match the subscription.
    pub(crate) owed: usize,
    /// Deliveries that the receiver accepted.
    pub(crate) delivered: usize,
    /// Accepted after more than one request.
    pub(crate) retried: usize,
    /// All requests, with any answer.
    pub(crate) requests: usize,
    /// Deliveries with requests, of which none was accepted.
    pub(crate) refused: usize,
    /// Requests that were accepted after the first accepted one.
    pub(crate) duplicates: usize,
}

impl Ledger {
    /// Computes the expected deliveries: every event to every matching subscription.
    pub(crate) fn open(&self, subscriptions: &[Subscription], events: &[Event]) {
        let mut entries = self.entries();
        for (index, subscription) in subscriptions.iter().enumerate() {
            for event in events.iter().filter(|event| subscription.wants(event)) {
                let delivery = Delivery {
                    subscription: index,
                    event: event.clone(),
                    requests: 0,
                    accepted: 0,
                    needed: 0,
                    proof: None,
                };
                let id = subscription.delivery_of(event);
                entries.deliveries.insert(id, delivery);
            }
            let verified = (subscription.clone(), Verifier::of(subscription));
            entries.subscriptions.push(verified);
        }
    }

    /// Records a request and returns the status of its answer.
    pub(crate) fn enter(
        &self,
        behaviour: Behaviour,
        organization: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> StatusCode {
        let mut entries = self.entries();
        entries
            .enter(behaviour, organization, headers, body)
            .unwrap_or_else(|why| {
                let name = behaviour.name();
                entries
                    .problems
                    .push(format!("to {name} of {organization}: {why}"));
                StatusCode::BAD_REQUEST
            })
    }

    /// The last request of a delivery, once it has been accepted.
    pub(crate) fn proof(&self, delivery: &str) -> Option<Proof> {
        let entries = self.entries();
        let found = entries.deliveries.get(delivery)?;
        found.proof.clone().filter(|_| found.accepted > 0)
    }

    /// The counts of each subscription.
    pub(crate) fn tallies(&self) -> Vec<Tally> {
        let entries = self.entries();
        let mut tallies = vec![Tally::default(); entries.subscriptions.len()];
        for delivery in entries.deliveries.values() {
            let tally = &mut tallies[delivery.subscription];
            let was_accepted = delivery.accepted > 0;
            tally.owed += 1;
            tally.requests += delivery.requests as usize;
            tally.delivered += usize::from(was_accepted);
            tally.retried += usize::from(was_accepted && delivery.needed > 1);
            tally.refused += usize::from(!was_accepted && delivery.requests > 0);
            tally.duplicates += delivery.accepted.saturating_sub(1) as usize;
        }
        tallies
    }

    /// The ids of accepted deliveries.
    pub(crate) fn accepted(&self, subscription: usize) -> BTreeSet<String> {
        let entries = self.entries();
        let accepted = entries
            .deliveries
            .iter()
            .filter(|(_, delivery)| delivery.subscription == subscription && delivery.accepted > 0);
        accepted.map(|(id, _)| id.clone()).collect()
    }

    /// Requests that were not as expected.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.entries().problems.clone()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn enter(
        &mut self,
        behaviour: Behaviour,
        organization: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<StatusCode, String> {
        let index = self.subscriptions.iter().position(|(subscription, _)| {
            subscription.behaviour == behaviour && subscription.organization == organization
        });
        let index = index.ok_or("no subscription")?;
        self.subscriptions[index].1.check(headers, body)?;

        let id = header(headers, "webhook-id")?;
        let delivery = self.deliveries.get_mut(id);
        let delivery = delivery
            .filter(|delivery| delivery.subscription == index)
            .ok_or_else(|| format!("{id} is not expected"))?;
        if delivery.event.body != body {
            return Err(format!("the body of {id} is not what was published"));
        }
        if header(headers, "x-webhook-event")? != delivery.event.event_type.as_str() {
            return Err(format!("X-Webhook-Event of {id} is not the event's type"));
        }

        delivery.requests += 1;
        let status = behaviour.answer(delivery.requests);
        if status.is_success() {
            delivery.accepted += 1;
            if delivery.accepted == 1 {
                delivery.needed = delivery.requests;
            }
        }
        let mut shown = SHOWN.map(|_| String::new());
        for (text, name) in shown.iter_mut().zip(SHOWN) {
            header(headers, name)?.clone_into(text);
        }
        delivery.proof = Some(Proof {
            arrived: Instant::now(),
            headers: shown,
        });
        Ok(status)
    }
}
