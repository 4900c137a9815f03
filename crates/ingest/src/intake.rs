//! Receiving messages, and which of them are stored, deferred, dead-lettered or tried in quarantine.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hookline_core::event_type::EventType;
use hookline_core::ids::OrganizationId;
use hookline_core::quarantine::SUSPECT_AFTER;
use hookline_queue::{Deferred, PublishedEvents, ReceivedMessage};
use hookline_runtime::failpoint;
use hookline_runtime::shutdown::Shutdown;
use hookline_runtime::telemetry::{continue_trace, trace_of};
use hookline_store::FanoutIndex;
use opentelemetry::metrics::Counter;
use tokio::sync::{Semaphore, mpsc};
use tracing::Span;

use crate::backlog::DEFER_FOR;
use crate::config::Ingest;
use crate::decode::{self, Decoded};
use crate::deferred_batch;
use crate::rate_limit::OrganizationRateLimit;
use crate::storage_quota::{self, StorageQuota};
use crate::unacked::{EventDisposition, FaultyEvent, Settlements};

/// Slices that use the store at once.
const MAX_TRANSACTIONS: usize = 3;

/// Messages that are received and not settled.
const MAX_UNACKED: usize = 1_024;

/// The pause of intake before it counts the due deliveries again.
const PAUSE: Duration = Duration::from_secs(1);

/// More deliveries than all replicas of ingest store in a second.
const STORED_PER_SECOND: u64 = 20_000;

/// A message that is due this soon is not deferred again: clocks differ.
const EARLY: Duration = Duration::from_millis(500);

/// The state that all slices share.
pub(crate) struct Intake {
    pub(crate) ingest: Ingest,
    pub(crate) index: FanoutIndex,
    pub(crate) shutdown: Shutdown,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) stored: Counter<u64>,
    rate_limit: Mutex<OrganizationRateLimit>,
    quota: StorageQuota,
    /// The time of the next count of due deliveries.
    count_again: Mutex<Option<Instant>>,
    /// The channel to the deferrer. The prefetch bounds it.
    deferring: mpsc::UnboundedSender<Decoded>,
    rejected: Counter<u64>,
}

/// The process stopped before a batch was settled.
pub(crate) struct Interrupted;

pub(crate) type DecodedBatch = Vec<Decoded>;

/// How many deliveries an event of this organization and type makes.
pub(crate) type FanOut = HashMap<(OrganizationId, EventType), usize>;

/// Received messages that are to be stored or tried.
pub(crate) struct Arrivals {
    pub(crate) batch: DecodedBatch,
    pub(crate) fan_out: FanOut,
    pub(crate) suspects: Vec<ReceivedMessage<PublishedEvents>>,
}

impl Intake {
    pub(crate) fn new(
        ingest: Ingest,
        shutdown: Shutdown,
        deferring: mpsc::UnboundedSender<Decoded>,
    ) -> Self {
        let meter = opentelemetry::global::meter("hookline-ingest");
        Self {
            index: FanoutIndex::default(),
            shutdown,
            permits: Arc::new(Semaphore::new(MAX_TRANSACTIONS)),
            stored: meter.u64_counter("hookline.events.taken_in").build(),
            rate_limit: Mutex::new(OrganizationRateLimit::new(
                ingest.policy.events_of_organization,
            )),
            quota: StorageQuota::new(ingest.policy.max_stored_bytes),
            count_again: Mutex::default(),
            deferring,
            rejected: meter.u64_counter("hookline.events.rejected").build(),
            ingest,
        }
    }

    /// The queue of a folder has no prefetch of its own.
    pub(crate) fn max_unacked(&self) -> usize {
        self.ingest.policy.prefetch.min(MAX_UNACKED)
    }

    /// The next messages; none once no more come.
    pub(crate) async fn receive(&self) -> Option<Arrivals> {
        self.wait_for_dispatchers().await;
        let events = &self.ingest.events;
        let received = events.receive(self.ingest.policy.batch).await;
        // A stopped consumer returns nothing more.
        if received.is_empty() {
            return None;
        }
        let mut arrivals = Arrivals {
            batch: Vec::new(),
            fan_out: FanOut::new(),
            suspects: Vec::new(),
        };
        if self.shutdown.draining.is_cancelled() {
            events.requeue_uncounted(received).await;
            return Some(arrivals);
        }
        let others;
        (arrivals.suspects, others) = received
            .into_iter()
            .partition(|message| message.delivery_count >= SUSPECT_AFTER);
        let batch = self.decode(others).await;
        let full = self.quota.full(&self.ingest.store).await;
        let early;
        (arrivals.batch, early) = self.split_by_rate_limit(batch, &full);
        for message in early {
            self.defer(message);
        }
        arrivals.fan_out = self.fan_out(&arrivals.batch).await;
        Some(arrivals)
    }

    /// Without a deferrer the process ends, and the message comes again.
    pub(crate) fn defer(&self, message: Decoded) {
        let _ = self.deferring.send(message);
    }

    /// Defers a message of a failed transaction. The process survived it, so its delivery count begins anew.
    fn defer_failed(&self, mut message: ReceivedMessage<PublishedEvents>) {
        message.message.due = Some(hookline_clock::now().after(DEFER_FOR));
        message.delivery_count = 1;
        self.defer(Decoded {
            message,
            events: Vec::new(),
            _span: Span::none(),
        });
    }

    /// Backpressure: while dispatchers are far behind, events stay on the broker. The broker stores them better than a
    /// table of due deliveries that grows without bound.
    async fn wait_for_dispatchers(&self) {
        while !self.shutdown.draining.is_cancelled() && self.is_far_ahead().await {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.shutdown.draining.cancelled() => {}
            }
        }
    }

    /// False while the store does not answer, because nothing is stored then. The count reads an index entry for each
    /// due delivery. It is therefore repeated no sooner than the limit can be reached.
    async fn is_far_ahead(&self) -> bool {
        let most = self.ingest.policy.max_waiting;
        let again = *self.count_again();
        if again.is_some_and(|again| Instant::now() < again) {
            return false;
        }
        let due = self.ingest.store.count_due(hookline_clock::now(), most + 1);
        let due = due.await.unwrap_or_default();
        let rest = Duration::from_secs(most.saturating_sub(due) / STORED_PER_SECOND).max(PAUSE);
        *self.count_again() = Some(Instant::now() + rest);
        due > most
    }

    fn count_again(&self) -> MutexGuard<'_, Option<Instant>> {
        self.count_again
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads the subscriptions, so that the first slices have the right size. If the store is unavailable, slices that
    /// make too many deliveries are cut later.
    pub(crate) async fn load_fan_out(&self) {
        let now = hookline_clock::now();
        let nothing = self.ingest.store.intake(&self.index, Arc::default(), now);
        if let Err(why) = nothing.await {
            tracing::debug!(error = %why, "cannot load the subscriptions");
        }
    }

    /// How many deliveries the events of a batch make, as far as the index knows. The index may be locked during a
    /// query, so this blocks a thread.
    pub(crate) async fn fan_out(&self, batch: &DecodedBatch) -> FanOut {
        let kinds: HashSet<_> = batch
            .iter()
            .flat_map(|decoded| &decoded.events)
            .map(|one| (one.event.organization.clone(), one.event.event_type))
            .collect();
        let index = self.index.clone();
        let counting = tokio::task::spawn_blocking(move || {
            let count = |kind: (OrganizationId, EventType)| {
                let deliveries = index.deliveries_of(&kind.0, kind.1);
                (kind, deliveries)
            };
            kinds.into_iter().map(count).collect()
        });
        counting.await.unwrap_or_default()
    }

    /// Dead-letters messages without valid events.
    pub(crate) async fn decode(
        &self,
        received: Vec<ReceivedMessage<PublishedEvents>>,
    ) -> DecodedBatch {
        let mut batch = Vec::with_capacity(received.len());
        for message in received {
            let span = span_of(&message.message);
            // The attempts continue this span, or the publisher's trace if no spans are collected.
            let trace = trace_of(&span).or(message.message.trace);
            match decode::events(&message.message, trace) {
                Ok(events) if events.is_empty() => {
                    self.ingest.events.ack(vec![message]).await;
                }
                Ok(events) => batch.push(Decoded {
                    message,
                    events,
                    _span: span,
                }),
                Err(why) => self.reject(message, &why.to_string()).await,
            }
        }
        batch
    }

    /// The messages that are admitted now, and the others, each with the time at which it is due.
    fn split_by_rate_limit(
        &self,
        batch: DecodedBatch,
        full: &HashSet<OrganizationId>,
    ) -> (DecodedBatch, DecodedBatch) {
        let (now, instant) = (hookline_clock::now(), Instant::now());
        let mut limit = self
            .rate_limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !limit.is_limited() && full.is_empty() {
            return (batch, Vec::new());
        }
        let mut early = Vec::new();
        let mut admitted = Vec::with_capacity(batch.len());
        for mut decoded in batch {
            let due = &mut decoded.message.message.due;
            let mut owners = decoded.events.iter().map(|one| &one.event.organization);
            if owners.clone().any(|owner| full.contains(owner)) {
                *due = Some(now.after(storage_quota::DEFER_FOR));
                early.push(decoded);
                continue;
            }
            let delay = match *due {
                Some(due) => due.remaining(now).saturating_sub(EARLY),
                None => limit.delay_of(&mut owners, instant),
            };
            if delay.is_zero() {
                admitted.push(decoded);
                continue;
            }
            due.get_or_insert_with(|| now.after(delay));
            early.push(decoded);
        }
        (admitted, early)
    }

    /// A deferred batch is split instead, and the invalid event is found in a message of its own.
    pub(crate) async fn reject(&self, message: ReceivedMessage<PublishedEvents>, reason: &str) {
        let parts = deferred_batch::split(&message.message, message.count_to_carry());
        let Some(message) = self.replace(message, parts, reason).await else {
            return;
        };
        tracing::info!(reason, "rejected a message without valid events");
        self.dead_letter(message, reason).await;
    }

    /// Dead-letters the message of an event that the store cannot write. A message with other events is split first.
    async fn reject_faulty(&self, message: ReceivedMessage<PublishedEvents>, faulty: FaultyEvent) {
        let reason = &faulty.reason;
        let parts = deferred_batch::split_array(&message.message, message.count_to_carry());
        let Some(message) = self.replace(message, parts, reason).await else {
            return;
        };
        tracing::warn!(
            event.id = %faulty.event,
            organization.id = %faulty.organization,
            reason,
            "dead-lettered event"
        );
        self.dead_letter(message, reason).await;
    }

    /// Replaces a message by its parts, and returns it if it has none.
    async fn replace(
        &self,
        message: ReceivedMessage<PublishedEvents>,
        parts: Option<Vec<Deferred>>,
        reason: &str,
    ) -> Option<ReceivedMessage<PublishedEvents>> {
        let Some(parts) = parts else {
            return Some(message);
        };
        let events = &self.ingest.events;
        tracing::info!(reason, "split a batch of events");
        let message = [message];
        if let Err(why) = events.defer(&message, &parts).await {
            tracing::warn!(error = %why, "cannot split a batch of events; it comes again");
            events.requeue(message.into()).await;
        }
        None
    }

    async fn dead_letter(&self, message: ReceivedMessage<PublishedEvents>, reason: &str) {
        self.rejected.add(1, &[]);
        if let Err(why) = self.ingest.events.dead_letter(message, reason).await {
            tracing::warn!(error = %why, "cannot dead-letter a message; it comes again");
        }
    }

    pub(crate) async fn settle(&self, settlements: Settlements) {
        let events = &self.ingest.events;
        let (mut done, mut untouched, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
        for (message, disposition) in settlements {
            match disposition {
                EventDisposition::Ack => done.push(message),
                EventDisposition::RequeueUncounted => untouched.push(message),
                EventDisposition::Requeue => unfinished.push(message),
                EventDisposition::DeadLetter(faulty) => self.reject_faulty(message, faulty).await,
                EventDisposition::Defer => self.defer_failed(message),
            }
        }
        if !done.is_empty() {
            events.ack(done).await;
            failpoint::point("ingest::acked");
        }
        if !untouched.is_empty() {
            events.requeue_uncounted(untouched).await;
        }
        if !unfinished.is_empty() {
            events.requeue(unfinished).await;
        }
    }
}

/// A span that continues the publisher's trace.
fn span_of(message: &PublishedEvents) -> Span {
    let span = tracing::info_span!("intake");
    if let Some(trace) = message.trace {
        continue_trace(&span, trace);
    }
    span
}
