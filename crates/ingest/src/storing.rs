//! Storing a slice: one transaction, after which the owners of its deliveries are woken. Events of a failed transaction
//! go back to the backlog.

use std::sync::Arc;
use std::time::Instant;

use hookline_core::ids::OrganizationId;
use hookline_queue::Scheduled;
use hookline_runtime::failpoint;
use hookline_store::{IncomingEvent, IntakeResult, StoreError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::backlog::slice::{MAX_DELIVERIES, Slice, SliceFailure, WaitingEvent, WriteKind};
use crate::intake::Intake;
use crate::unacked::EventOutcome;

/// The reports of a slice to the intake loop.
#[derive(Debug)]
pub(crate) enum SliceReport {
    /// A transaction was committed.
    Committed {
        organizations: Vec<OrganizationId>,
        is_slow: bool,
        written: Option<WriteKind>,
    },
    /// A transaction failed.
    Failed {
        events: Vec<WaitingEvent>,
        failure: SliceFailure,
        why: StoreError,
    },
    /// The outcome of an event of this message.
    Event { message: u64, outcome: EventOutcome },
    /// The slice has ended: its organizations may begin another.
    Ended(Vec<OrganizationId>),
}

impl Intake {
    /// Tries a slice once and reports the outcome of each event. `permit` is held while the slice uses the store.
    pub(crate) async fn store_slice(
        &self,
        slice: Slice,
        permit: OwnedSemaphorePermit,
        reports: mpsc::UnboundedSender<SliceReport>,
    ) {
        let mut permit = Some(permit);
        // The intake loop receives until the last slice has ended.
        let report = |one| drop(reports.send(one));
        let Slice {
            events,
            organizations,
            is_slow,
            size: _,
        } = slice;
        let mut pieces = vec![events];
        while let Some(mut piece) = pieces.pop() {
            if permit.is_none() {
                permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            }
            let began = Instant::now();
            match self.store_events(&piece).await {
                Ok(Some(given)) => {
                    report(SliceReport::Committed {
                        organizations: organizations.clone(),
                        is_slow,
                        written: written(&given),
                    });
                    self.wake(given);
                    for one in piece {
                        report(SliceReport::Event {
                            message: one.message,
                            outcome: EventOutcome::Stored,
                        });
                    }
                }
                Ok(None) => {
                    // The events make more deliveries than was known when the slice was cut.
                    let rest = piece.split_off(piece.len() / 2);
                    pieces.extend([rest, piece].into_iter().filter(|half| !half.is_empty()));
                }
                Err(why) => {
                    permit = None;
                    let failure = SliceFailure {
                        began,
                        ended: Instant::now(),
                        is_transient: why.is_transient(),
                        can_be_written: self.ingest.store.can_be_written(),
                        is_slow,
                    };
                    report(SliceReport::Failed {
                        events: piece,
                        failure,
                        why,
                    });
                }
            }
        }
        report(SliceReport::Ended(organizations));
    }

    /// None if they make too many deliveries for one transaction.
    async fn store_events(
        &self,
        piece: &[WaitingEvent],
    ) -> Result<Option<IntakeResult>, StoreError> {
        let events: Arc<[IncomingEvent]> = piece.iter().map(|one| one.event.clone()).collect();
        let now = hookline_clock::now();
        let store = &self.ingest.store;
        let given = store.intake_at_most(&self.index, events, MAX_DELIVERIES, now);
        let given = given.await;
        failpoint::point("ingest::committed");
        if let Ok(Some(given)) = &given {
            self.stored.add(given.new_events as u64, &[]);
        }
        given
    }

    fn wake(&self, given: IntakeResult) {
        let due: Vec<Scheduled> = given.tasks.into_iter().map(Scheduled::at_once).collect();
        self.ingest.publisher.wake(&due);
        tracing::debug!(deliveries = due.len(), "stored events");
        failpoint::point("ingest::published");
    }
}

/// The kind of written rows. None if all events were stored before: that shows nothing about writing.
fn written(given: &IntakeResult) -> Option<WriteKind> {
    match (given.new_events, given.tasks.is_empty()) {
        (0, _) => None,
        (_, true) => Some(WriteKind::EventsOnly),
        (_, false) => Some(WriteKind::WithDeliveries),
    }
}
