//! The loop of ingest: receives messages, begins slices by the turns of the organizations, and settles messages by
//! their reports.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use hookline_store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::{JoinError, JoinSet};

use crate::backlog::EventBacklog;
use crate::backlog::slice::{Slice, SliceFailure, WaitingEvent};
use crate::decode::Decoded;
use crate::intake::{Arrivals, DecodedBatch, FanOut, Intake};
use crate::storing::SliceReport;
use crate::unacked::{EventDisposition, EventOutcome, FaultyEvent, Settlements, UnackedMessages};

pub(crate) struct IntakeLoop {
    intake: Arc<Intake>,
    unacked: UnackedMessages,
    backlog: EventBacklog,
    reports: mpsc::UnboundedSender<SliceReport>,
    reported: mpsc::UnboundedReceiver<SliceReport>,
    slices: JoinSet<()>,
    /// No further slice is begun.
    stops: bool,
    /// An event that the store does not write is not retried here.
    is_trial: bool,
}

impl IntakeLoop {
    pub(crate) fn new(intake: Arc<Intake>) -> Self {
        let (reports, reported) = mpsc::unbounded_channel();
        Self {
            unacked: UnackedMessages::default(),
            backlog: EventBacklog::new(intake.max_unacked()),
            reports,
            reported,
            slices: JoinSet::new(),
            stops: false,
            is_trial: false,
            intake,
        }
    }

    /// Returns after the shutdown, once no message can arrive and every slice has ended.
    pub(crate) async fn run(mut self) {
        let intake = Arc::clone(&self.intake);
        let asked = &intake.shutdown.draining;
        // Each future is created once and polled in each iteration.
        let (mut receiving, mut permit) = (None, None);
        let mut nothing_comes = false;
        loop {
            let has_room = self.stops || self.unacked.len() < intake.max_unacked();
            if receiving.is_none() && !nothing_comes && has_room {
                receiving = Some(Box::pin(intake.receive()));
            }
            if self.stops && nothing_comes && self.slices.is_empty() && self.reported.is_empty() {
                return;
            }
            let now = Instant::now();
            let has_turn = !self.stops && self.backlog.has_turn(now);
            if has_turn && permit.is_none() {
                permit = Some(Box::pin(Arc::clone(&intake.permits).acquire_owned()));
            } else if !has_turn {
                permit = None;
            }
            tokio::select! {
                () = asked.cancelled(), if !self.stops => self.stop().await,
                Some(report) = self.reported.recv() => self.settle(report).await,
                arrivals = or_never(&mut receiving) => {
                    receiving = None;
                    match arrivals {
                        Some(arrivals) => self.admit(arrivals),
                        None => nothing_comes = true,
                    }
                }
                Ok(acquired) = or_never(&mut permit) => {
                    permit = None;
                    self.begin(acquired);
                }
                () = due(self.backlog.due(now)), if !has_turn && !self.stops => {}
                Some(joined) = self.slices.join_next(), if !self.slices.is_empty() => {
                    // The messages of a slice that panicked come again only when the process ends.
                    if let Err(Ok(panic)) = joined.map_err(JoinError::try_into_panic) {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
    }

    fn admit(&mut self, arrivals: Arrivals) {
        let Arrivals {
            batch,
            fan_out,
            suspects,
        } = arrivals;
        let now = hookline_clock::now();
        for mut decoded in batch {
            let mut owners = decoded.events.iter().map(|one| &one.event.organization);
            if let Some(delay) = owners.find_map(|owner| self.backlog.delay_if_crowded(owner)) {
                decoded.message.message.due = Some(now.after(delay));
                self.intake.defer(decoded);
                continue;
            }
            self.push(decoded, &fan_out);
        }
        if !suspects.is_empty() {
            let intake = Arc::clone(&self.intake);
            self.slices.spawn(async move {
                // Suspects that were not tried are requeued.
                let _ = intake.try_suspects(suspects).await;
            });
        }
    }

    fn push(&mut self, decoded: Decoded, fan_out: &FanOut) {
        let Decoded {
            message,
            events,
            _span: span,
        } = decoded;
        let message = self.unacked.insert(message, span, events.len());
        for event in events {
            let kind = (event.event.organization.clone(), event.event.event_type);
            let deliveries = fan_out.get(&kind).copied().unwrap_or_default();
            let waiting = WaitingEvent::new(message, event, deliveries);
            self.backlog.push(waiting, Instant::now());
        }
    }

    fn begin(&mut self, permit: OwnedSemaphorePermit) {
        if let Some(slice) = self.next_slice() {
            let (intake, reports) = (Arc::clone(&self.intake), self.reports.clone());
            self.slices
                .spawn(async move { intake.store_slice(slice, permit, reports).await });
        }
    }

    fn next_slice(&mut self) -> Option<Slice> {
        let slice = self
            .backlog
            .next(self.intake.ingest.policy.batch, Instant::now())?;
        self.unacked
            .begin(slice.events.iter().map(|one| one.message));
        Some(slice)
    }

    /// Applies this report and all others that have arrived.
    async fn settle(&mut self, first: SliceReport) {
        let mut settlements = Settlements::new();
        let mut next = Some(first);
        while let Some(report) = next {
            match report {
                SliceReport::Committed {
                    organizations,
                    is_slow,
                    written,
                } => {
                    let now = Instant::now();
                    self.backlog
                        .committed(&organizations, is_slow, written, now);
                }
                SliceReport::Failed {
                    events,
                    failure,
                    why,
                } => settlements.extend(self.failed(events, failure, &why)),
                SliceReport::Event { message, outcome } => {
                    if matches!(outcome, EventOutcome::Unfinished) {
                        self.backlog.forget(&HashSet::from([message]));
                    }
                    settlements.extend(self.unacked.finish_event(message, outcome));
                }
                SliceReport::Ended(organizations) => self.backlog.slice_ended(&organizations),
            }
            next = self.reported.try_recv().ok();
        }
        self.intake.settle(settlements).await;
    }

    /// The events of a failed transaction wait again, except those of settled messages. Returns the messages that can
    /// be settled now.
    fn failed(
        &mut self,
        events: Vec<WaitingEvent>,
        failure: SliceFailure,
        why: &StoreError,
    ) -> Settlements {
        let mut settlements = Settlements::new();
        let mut waiting = Vec::with_capacity(events.len());
        for one in events {
            if self.stops {
                let unfinished = EventOutcome::Unfinished;
                settlements.extend(self.unacked.finish_event(one.message, unfinished));
            } else if self.unacked.retries_event(one.message) {
                waiting.push(one);
            } else {
                settlements.extend(self.unacked.settle(one.message));
            }
        }
        if self.is_trial && failure.is_transient {
            let messages = waiting.iter().map(|one| one.message).collect();
            settlements.extend(self.dispose(&messages, &EventDisposition::Defer));
            return settlements;
        }
        let events = waiting.len();
        let consequence = self.backlog.failed(waiting, failure);
        if let Some(one) = consequence.faulty {
            let event = one.event.event;
            let faulty = EventDisposition::DeadLetter(FaultyEvent {
                event: event.id,
                organization: event.organization,
                reason: why.to_string(),
            });
            settlements.extend(self.dispose(&HashSet::from([one.message]), &faulty));
            return settlements;
        }
        if events > 0 {
            tracing::warn!(
                what = "store events",
                events,
                error = %why,
                wait_ms = consequence.wait.as_millis(),
                "failed, trying again"
            );
        }
        if let Some(organization) = consequence.stuck {
            tracing::warn!(
                organization.id = %organization,
                reason = %why,
                "the store takes no events of an organization and takes those of others; its events wait"
            );
        }
        if !consequence.deferred.is_empty() {
            settlements.extend(self.dispose(&consequence.deferred, &EventDisposition::Defer));
        }
        settlements
    }

    fn dispose(&mut self, messages: &HashSet<u64>, disposition: &EventDisposition) -> Settlements {
        self.backlog.forget(messages);
        let dispose = |message: &u64| self.unacked.dispose(*message, disposition.clone());
        messages.iter().filter_map(dispose).collect()
    }

    /// Begins no further slice.
    async fn stop(&mut self) {
        self.stops = true;
        self.backlog.clear();
        let settlements = self.unacked.stop();
        self.intake.settle(settlements).await;
    }

    /// Tries a batch of suspects alone and each event at most once. One try suffices: the process survives it
    /// or not. A failing event must not delay the other suspects.
    pub(crate) async fn try_once(mut self, batch: DecodedBatch) {
        self.is_trial = true;
        let fan_out = self.intake.fan_out(&batch).await;
        for decoded in batch {
            self.push(decoded, &fan_out);
        }
        let intake = Arc::clone(&self.intake);
        while !intake.shutdown.deadline.is_cancelled()
            && let Some(slice) = self.next_slice()
            && let Ok(permit) = Arc::clone(&intake.permits).acquire_owned().await
        {
            intake
                .store_slice(slice, permit, self.reports.clone())
                .await;
            while let Ok(report) = self.reported.try_recv() {
                self.settle(report).await;
            }
        }
        self.stop().await;
    }
}

/// The result of a future. Without a future, it never returns.
async fn or_never<T>(future: &mut Option<std::pin::Pin<Box<impl Future<Output = T>>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
