//! One slice: taken in by the store, then the owners of its deliveries are woken. What the store does not take goes back to the backlog.

use std::sync::Arc;
use std::time::Instant;

use hookline_core::ids::OrganizationId;
use hookline_queue::Scheduled;
use hookline_runtime::fault;
use hookline_store::{Given, IncomingEvent, StoreError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::Intake;
use crate::backlog::{DELIVERIES, Failure, Kind, Slice, Waiting};
use crate::hand::Fate;

/// What a slice tells the intake that began it.
#[derive(Debug)]
pub(crate) enum News {
    /// A transaction was committed, and has written this.
    TakenIn {
        organizations: Vec<OrganizationId>,
        is_slow: bool,
        written: Option<Kind>,
    },
    /// A transaction failed.
    NotTaken {
        events: Vec<Waiting>,
        failure: Failure,
        why: StoreError,
    },
    /// What became of an event of this message.
    Event { message: u64, fate: Fate },
    /// These organizations may begin another slice.
    Over(Vec<OrganizationId>),
}

impl Intake {
    /// Tries a slice once: of each of its events it is told what became of it. `permit` is held while the
    /// slice uses the store.
    pub(crate) async fn work(
        &self,
        slice: Slice,
        permit: OwnedSemaphorePermit,
        news: mpsc::UnboundedSender<News>,
    ) {
        let mut permit = Some(permit);
        // Until the last slice is over the intake listens.
        let tell = |told| drop(news.send(told));
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
            match self.take_in(&piece).await {
                Ok(Some(given)) => {
                    tell(News::TakenIn {
                        organizations: organizations.clone(),
                        is_slow,
                        written: written(&given),
                    });
                    self.wake(given);
                    for one in piece {
                        tell(News::Event {
                            message: one.message,
                            fate: Fate::Stored,
                        });
                    }
                }
                Ok(None) => {
                    // More than was known when the slice was cut.
                    let rest = piece.split_off(piece.len() / 2);
                    pieces.extend([rest, piece].into_iter().filter(|half| !half.is_empty()));
                }
                Err(why) => {
                    permit = None;
                    let failure = Failure {
                        began,
                        ended: Instant::now(),
                        is_transient: why.is_transient(),
                        can_be_written: self.ingest.store.can_be_written(),
                        is_slow,
                    };
                    tell(News::NotTaken {
                        events: piece,
                        failure,
                        why,
                    });
                }
            }
        }
        tell(News::Over(organizations));
    }

    /// None where they make too many deliveries for one transaction.
    async fn take_in(&self, piece: &[Waiting]) -> Result<Option<Given>, StoreError> {
        let events: Arc<[IncomingEvent]> = piece.iter().map(|one| one.event.clone()).collect();
        let now = hookline_clock::now();
        let store = &self.ingest.store;
        let given = store.take_in_at_most(&self.index, events, DELIVERIES, now);
        let given = given.await;
        fault::point("ingest::committed");
        if let Ok(Some(given)) = &given {
            self.taken_in.add(given.new_events as u64, &[]);
        }
        given
    }

    fn wake(&self, given: Given) {
        let due: Vec<Scheduled> = given.owed.into_iter().map(Scheduled::at_once).collect();
        self.ingest.publisher.wake(&due);
        tracing::debug!(deliveries = due.len(), "took events in");
        fault::point("ingest::published");
    }
}

/// Events that were known already show nothing about writing.
fn written(given: &Given) -> Option<Kind> {
    match (given.new_events, given.owed.is_empty()) {
        (0, _) => None,
        (_, true) => Some(Kind::EventsAlone),
        (_, false) => Some(Kind::WithDeliveries),
    }
}
