//! The ledger of a run records published events, owed deliveries and received requests, and judges the run.
//!
//! A confirmed event is owed to every subscription that was answered with 201 before the publish began.
//! An event with a failed publish may be delivered or not. Every delivery must match a published event byte for byte.
//! Its organization and type are ones that the subscription wants, and its `webhook-id` is always the same.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::repeats::AcceptedRequest;
use hookline_testkit::receiver::ReceivedRequest;

/// How many errors the ledger shows; one cause makes many.
const SHOWN: usize = 20;

/// One request in this many has its signature verified: a verification costs more than all the rest here.
const SAMPLE: usize = 8;

/// An event by its organization and id.
pub(crate) type EventName = (String, String);

/// A subscription, as we know it: by the number in its URL.
pub(crate) type SubscriptionNumber = usize;

/// The record of a run. Clones share the entries.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    events: HashMap<EventName, LedgerEvent>,
    subscriptions: Vec<LedgerSubscription>,
    requests_of_delivery: HashMap<(EventName, SubscriptionNumber), DeliveryRequests>,
    owners: HashMap<String, (EventName, SubscriptionNumber)>,
    requests: usize,
    verified: usize,
    refused: usize,
    deliveries: Vec<Instant>,
    confirms: Vec<Instant>,
    violations: Vec<String>,
    violation_count: usize,
}

struct LedgerEvent {
    event_type: &'static str,
    body: String,
    began: Instant,
    confirmed: Option<Instant>,
    /// Its row went with the commits that a failover lost.
    lost_by_failover: bool,
}

/// A subscription that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct LedgerSubscription {
    pub(crate) organization: String,
    pub(crate) events: Vec<&'static str>,
    pub(crate) secret: String,
    /// Its id, and since when it is owed: from the answer on.
    pub(crate) created: Option<(i64, Instant)>,
    /// Its row went with the commits that a failover lost.
    pub(crate) lost_by_failover: bool,
}

impl LedgerSubscription {
    fn wants(&self, (organization, _): &EventName, event_type: &str) -> bool {
        self.organization == *organization && self.events.contains(&event_type)
    }
}

/// The time span in which a failover may have lost commits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LostCommits {
    /// Everything that was confirmed before was in the copy.
    pub(crate) from: Instant,
    /// The database that had them was killed.
    pub(crate) until: Instant,
    /// The copy took over.
    pub(crate) back: Instant,
}

/// The content of the database in the end.
pub(crate) struct StoredRows {
    pub(crate) events: HashSet<EventName>,
    /// Ids and URLs of the subscriptions.
    pub(crate) subscriptions: HashSet<(i64, String)>,
}

#[derive(Default)]
struct DeliveryRequests {
    webhook_id: String,
    /// The requests that were answered with 2xx.
    accepted: Vec<AcceptedRequest>,
}

/// How a run has ended so far.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Events with a confirmed publish.
    pub confirmed: usize,
    /// Events with a failed publish. Hookline may have accepted them or not.
    pub unknown: usize,
    /// Deliveries that are owed for the confirmed ones.
    pub owed: usize,
    /// The owed deliveries that came.
    pub delivered: usize,
    /// The owed deliveries that did not come.
    pub lost: usize,
    /// Confirmed events that were lost with the commits of a failover. No delivery is owed for them.
    pub lost_by_failover: usize,
    /// Subscriptions that were lost in the same way.
    pub subscriptions_lost_by_failover: usize,
    /// Deliveries of events with a failed publish, and deliveries to subscriptions that were just being made.
    pub optional: usize,
    /// Requests for deliveries that had been taken before.
    pub duplicates: usize,
    /// Requests in all.
    pub requests: usize,
    /// Signatures that were verified.
    pub verified: usize,
    /// Publishes by HTTP that were answered with 503 or 429.
    pub refused: usize,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A subscription is about to be asked for.
    pub(crate) fn asks_for(&self, subscription: LedgerSubscription) -> SubscriptionNumber {
        let mut entries = self.entries();
        entries.subscriptions.push(subscription);
        entries.subscriptions.len() - 1
    }

    /// It was made: what is published from now on is owed to it.
    pub(crate) fn created(&self, number: SubscriptionNumber, id: i64) {
        self.entries().subscriptions[number].created = Some((id, Instant::now()));
    }

    /// All subscriptions so far.
    pub(crate) fn subscriptions(&self) -> Vec<LedgerSubscription> {
        self.entries().subscriptions.clone()
    }

    /// An event is about to be published.
    pub(crate) fn publishes(&self, name: &EventName, event_type: &'static str, body: &str) {
        let published = LedgerEvent {
            event_type,
            body: body.to_owned(),
            began: Instant::now(),
            confirmed: None,
            lost_by_failover: false,
        };
        self.entries().events.insert(name.clone(), published);
    }

    /// It was confirmed.
    pub(crate) fn confirmed(&self, name: &EventName) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        if let Some(event) = entries.events.get_mut(name) {
            let now = Instant::now();
            event.confirmed = Some(now);
            entries.confirms.push(now);
        }
    }

    /// The events with a confirmed publish.
    pub(crate) fn confirmed_events(&self) -> Vec<EventName> {
        let entries = self.entries();
        let confirmed = entries
            .events
            .iter()
            .filter(|(_, event)| event.confirmed.is_some());
        confirmed.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn is_lost_by_failover(&self, name: &EventName) -> bool {
        self.entries().is_lost_by_failover(name)
    }

    /// Marks the entries that were lost with the commits of failovers: they are not stored, and were written while
    /// commits could be lost. Entries that are stored meanwhile are unmarked.
    pub(crate) fn mark_lost_by_failover(&self, lost: &[LostCommits], stored: &StoredRows) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        for (name, event) in &mut entries.events {
            // A publish without an answer may have been taken at any time after its beginning.
            let accepted = event.confirmed.is_none_or(|at| {
                lost.iter()
                    .any(|lost| at >= lost.from && event.began <= lost.until)
            });
            let began_before = lost.iter().any(|lost| event.began <= lost.until);
            event.lost_by_failover = accepted && began_before && !stored.events.contains(name);
        }
        for (number, subscription) in entries.subscriptions.iter_mut().enumerate() {
            if let Some((id, at)) = subscription.created {
                let in_time = lost.iter().any(|lost| at >= lost.from && at <= lost.back);
                let is_it = |(stored, url): &(i64, String)| {
                    *stored == id && url.ends_with(&format!("/{number}"))
                };
                subscription.lost_by_failover = in_time && !stored.subscriptions.iter().any(is_it);
            }
        }
    }

    /// A publish was answered with 503 or 429.
    pub(crate) fn refused(&self) {
        self.entries().refused += 1;
    }

    /// Something happened that may not happen.
    pub(crate) fn violation(&self, what: String) {
        self.entries().add_violation(what);
    }

    /// A request came to this subscription's URL.
    pub(crate) fn record_request(&self, number: SubscriptionNumber, request: &ReceivedRequest) {
        let mut entries = self.entries();
        if let Err(what) = entries.check_request(number, request) {
            entries.add_violation(what);
        }
    }

    /// A request was answered with 2xx.
    pub(crate) fn record_accepted(&self, number: SubscriptionNumber, request: &ReceivedRequest) {
        let mut entries = self.entries();
        let Some(name) = name_in(request) else { return };
        let answered = Instant::now();
        entries.deliveries.push(answered);
        let requests = entries
            .requests_of_delivery
            .entry((name, number))
            .or_default();
        requests.accepted.push(AcceptedRequest {
            received_at: request.at,
            answered,
        });
    }

    /// When publishes were confirmed, in order.
    pub(crate) fn confirms(&self) -> Vec<Instant> {
        self.entries().confirms.clone()
    }

    /// The requests of each delivery that were answered with 2xx.
    pub(super) fn accepted_requests(&self) -> Vec<Vec<AcceptedRequest>> {
        let entries = self.entries();
        entries
            .requests_of_delivery
            .values()
            .map(|requests| requests.accepted.clone())
            .collect()
    }

    /// When requests were answered with 2xx, in order.
    pub(crate) fn deliveries(&self) -> Vec<Instant> {
        self.entries().deliveries.clone()
    }

    /// The errors apart from missing deliveries: the first few, and how many in all.
    pub(crate) fn violations(&self) -> (Vec<String>, usize) {
        let entries = self.entries();
        (entries.violations.clone(), entries.violation_count)
    }

    /// The deliveries that are owed and have not come.
    pub(crate) fn missing(&self) -> Vec<(EventName, SubscriptionNumber)> {
        let entries = self.entries();
        entries
            .owed()
            .into_iter()
            .filter(|owed| !entries.was_accepted(owed))
            .collect()
    }

    /// How often a delivery was taken, by subscription.
    pub(crate) fn accepted_by(&self, number: SubscriptionNumber) -> usize {
        let entries = self.entries();
        entries
            .requests_of_delivery
            .iter()
            .filter(|((event, subscription), requests)| {
                *subscription == number
                    && !requests.accepted.is_empty()
                    && !entries.is_lost_by_failover(event)
            })
            .count()
    }

    /// Everything in numbers.
    pub(crate) fn counts(&self) -> Counts {
        let entries = self.entries();
        let owed = entries.owed();
        let delivered = owed
            .iter()
            .filter(|owed| entries.was_accepted(owed))
            .count();
        let accepted = entries
            .requests_of_delivery
            .values()
            .filter(|requests| !requests.accepted.is_empty());
        let stored = entries
            .requests_of_delivery
            .iter()
            .filter(|((event, _), requests)| {
                !requests.accepted.is_empty() && !entries.is_lost_by_failover(event)
            });
        let confirmed = entries
            .events
            .values()
            .filter(|event| event.confirmed.is_some());
        let lost_by_failover = confirmed
            .clone()
            .filter(|event| event.lost_by_failover)
            .count();
        let confirmed = confirmed.count();
        Counts {
            confirmed,
            unknown: entries.events.len() - confirmed,
            owed: owed.len(),
            delivered,
            lost: owed.len() - delivered,
            lost_by_failover,
            subscriptions_lost_by_failover: entries
                .subscriptions
                .iter()
                .filter(|subscription| subscription.lost_by_failover)
                .count(),
            optional: stored.count() - delivered,
            duplicates: accepted.map(|requests| requests.accepted.len() - 1).sum(),
            requests: entries.requests,
            verified: entries.verified,
            refused: entries.refused,
        }
    }
}

impl Entries {
    fn add_violation(&mut self, what: String) {
        self.violation_count += 1;
        if self.violations.len() < SHOWN {
            self.violations.push(what);
        }
    }

    fn check_request(
        &mut self,
        number: SubscriptionNumber,
        request: &ReceivedRequest,
    ) -> Result<(), String> {
        self.requests += 1;
        let name = name_in(request).ok_or_else(|| format!("no event: {request:?}"))?;
        let subscription = self
            .subscriptions
            .get(number)
            .ok_or_else(|| format!("no such subscription: {}", request.path))?;
        let event = self
            .events
            .get(&name)
            .ok_or_else(|| format!("{name:?} was never published"))?;
        if !subscription.wants(&name, event.event_type) {
            return Err(format!("{name:?} is not owed to {subscription:?}"));
        }
        if event.body.as_bytes() != request.body {
            return Err(format!("the body of {name:?} has changed: {request:?}"));
        }
        let id = request
            .header("webhook-id")
            .map_err(|why| why.to_string())?;
        if self.requests.is_multiple_of(SAMPLE) {
            request
                .verify_at_any_time(&subscription.secret)
                .map_err(|why| format!("the signature of {id} does not hold: {why:#}"))?;
            self.verified += 1;
        }
        let key = (name, number);
        let owner = self
            .owners
            .entry(id.to_owned())
            .or_insert_with(|| key.clone());
        if *owner != key {
            return Err(format!("{id} is both {owner:?} and {key:?}"));
        }
        let requests = self.requests_of_delivery.entry(key).or_default();
        if requests.webhook_id.is_empty() {
            id.clone_into(&mut requests.webhook_id);
        }
        match requests.webhook_id == id {
            true => Ok(()),
            false => Err(format!("{} is also {id}", requests.webhook_id)),
        }
    }

    fn owed(&self) -> Vec<(EventName, SubscriptionNumber)> {
        let mut owed = Vec::new();
        let stored = |event: &LedgerEvent| event.confirmed.is_some() && !event.lost_by_failover;
        for (name, event) in self.events.iter().filter(|(_, event)| stored(event)) {
            for (number, subscription) in self
                .subscriptions
                .iter()
                .enumerate()
                .filter(|(_, subscription)| !subscription.lost_by_failover)
            {
                let was_there = subscription
                    .created
                    .is_some_and(|(_, since)| since <= event.began);
                if was_there && subscription.wants(name, event.event_type) {
                    owed.push((name.clone(), number));
                }
            }
        }
        owed
    }

    fn is_lost_by_failover(&self, event: &EventName) -> bool {
        self.events
            .get(event)
            .is_some_and(|event| event.lost_by_failover)
    }

    fn was_accepted(&self, owed: &(EventName, SubscriptionNumber)) -> bool {
        self.requests_of_delivery
            .get(owed)
            .is_some_and(|requests| !requests.accepted.is_empty())
    }
}

fn name_in(request: &ReceivedRequest) -> Option<EventName> {
    let body: Value = serde_json::from_slice(&request.body).ok()?;
    let text = |name: &str| Some(body[name].as_str()?.to_owned());
    Some((text("organization_id")?, text("event_id")?))
}

/// The longest time without a delivery between two moments.
pub(crate) fn longest_gap(deliveries: &[Instant], from: Instant, until: Instant) -> Duration {
    let mut last = from;
    let mut longest = Duration::ZERO;
    for &at in deliveries.iter().filter(|at| (from..=until).contains(*at)) {
        longest = longest.max(at - last);
        last = at;
    }
    longest.max(until - last)
}

#[cfg(test)]
mod tests;
