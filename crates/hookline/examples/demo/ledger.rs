//! What is owed and what came of it, by `webhook-id`: the receivers' own books.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use actix_web::http::StatusCode;
use hookline_core::event::Event;
use reqwest::header::HeaderMap;

use crate::receivers::Manner;
use crate::subscriptions::Subscription;
use crate::verify::{Verifier, header};

/// Shared by the receivers and the story.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    desks: Vec<(Subscription, Verifier)>,
    deliveries: HashMap<String, Delivery>,
    complaints: Vec<String>,
}

/// An event that is owed to a subscription.
struct Delivery {
    /// The subscription's place among all.
    subscription: usize,
    event: Event,
    requests: u32,
    /// Answered with 200.
    accepted: u32,
    /// Requests that it took until the first of them.
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

/// What a delivery is recognized and verified by.
pub(crate) const SHOWN: [&str; 4] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "X-Webhook-Signature",
];

/// The sums of one subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Events that it wants.
    pub(crate) owed: usize,
    /// Of these, those that its receiver accepted.
    pub(crate) delivered: usize,
    /// Of these, those that took more than one request.
    pub(crate) retried: usize,
    /// Requests that came, however they were answered.
    pub(crate) requests: usize,
    /// Deliveries that were tried and not accepted.
    pub(crate) refused: usize,
    /// Accepted again after they were accepted.
    pub(crate) duplicates: usize,
}

impl Ledger {
    /// Works out what is owed: every event to every subscription that wants it.
    pub(crate) fn open(&self, subscriptions: &[Subscription], events: &[Event]) {
        let mut book = self.book();
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
                book.deliveries.insert(id, delivery);
            }
            let desk = (subscription.clone(), Verifier::of(subscription));
            book.desks.push(desk);
        }
    }

    /// Enters a request and says how to answer it.
    pub(crate) fn enter(
        &self,
        manner: Manner,
        organization: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> StatusCode {
        let mut book = self.book();
        book.enter(manner, organization, headers, body)
            .unwrap_or_else(|why| {
                let name = manner.name();
                book.complaints
                    .push(format!("to {name} of {organization}: {why}"));
                StatusCode::BAD_REQUEST
            })
    }

    /// The last request of a delivery, once it has been accepted.
    pub(crate) fn proof(&self, delivery: &str) -> Option<Proof> {
        let book = self.book();
        let found = book.deliveries.get(delivery)?;
        found.proof.clone().filter(|_| found.accepted > 0)
    }

    /// The sums, by subscription.
    pub(crate) fn tallies(&self) -> Vec<Tally> {
        let book = self.book();
        let mut tallies = vec![Tally::default(); book.desks.len()];
        for delivery in book.deliveries.values() {
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

    /// The ids of what a subscription's receiver accepted.
    pub(crate) fn accepted(&self, subscription: usize) -> BTreeSet<String> {
        let book = self.book();
        let accepted = book
            .deliveries
            .iter()
            .filter(|(_, delivery)| delivery.subscription == subscription && delivery.accepted > 0);
        accepted.map(|(id, _)| id.clone()).collect()
    }

    /// What was wrong with requests: none should be here.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.book().complaints.clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn enter(
        &mut self,
        manner: Manner,
        organization: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<StatusCode, String> {
        let desk = self.desks.iter().position(|(subscription, _)| {
            subscription.manner == manner && subscription.organization == organization
        });
        let desk = desk.ok_or("nobody subscribed")?;
        self.desks[desk].1.check(headers, body)?;

        let id = header(headers, "webhook-id")?;
        let delivery = self.deliveries.get_mut(id);
        let delivery = delivery
            .filter(|delivery| delivery.subscription == desk)
            .ok_or_else(|| format!("{id} is not owed"))?;
        if delivery.event.body != body {
            return Err(format!("the body of {id} is not what was published"));
        }
        if header(headers, "x-webhook-event")? != delivery.event.event_type.as_str() {
            return Err(format!("X-Webhook-Event of {id} is not the event's type"));
        }

        delivery.requests += 1;
        let status = manner.answer(delivery.requests);
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
