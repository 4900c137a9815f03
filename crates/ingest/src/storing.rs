//! One slice: taken in by the store, then handed on.
//!
//! A transaction that fails is retried. If it keeps failing while others succeed, or fails for a while, it is
//! halved, so that the events beside one at fault go on. An event that fails in a transaction of its own is
//! held and retried, and is put aside by the rule of `hookline_core::quarantine`. Where nothing can be
//! written, everything is held.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::OrganizationId;
use hookline_core::quarantine::{LoneFailures, Verdict};
use hookline_runtime::fault;
use hookline_store::{Given, IncomingEvent, Passage, StoreError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::Intake;
use crate::backlog::{DELIVERIES, Size, Slice, Waiting};
use crate::hand::{Fate, Fault};
use crate::pace::Handed;

const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Work goes on soon after the store is back.
const LONGEST_WAIT: Duration = Duration::from_millis(1_000);
/// The longest wait of an event that fails by itself.
const LONGEST_LONE_WAIT: Duration = Duration::from_secs(5);

/// After so long a transaction that fails is halved even if no other succeeds, where the store can be written:
/// each of those under way may have an event at fault in it.
const HALVED_AFTER: Duration = Duration::from_secs(2);

/// What a slice tells the intake that began it.
#[derive(Debug)]
pub(crate) enum News {
    /// What became of an event of this message.
    Event { message: u64, fate: Fate },
    /// These organizations may begin another slice.
    Over(Vec<OrganizationId>),
}

/// Where a slice tells it. Its organizations are free once this is dropped.
pub(crate) struct Report {
    news: mpsc::UnboundedSender<News>,
    organizations: Vec<OrganizationId>,
}

impl Report {
    pub(crate) fn new(
        news: mpsc::UnboundedSender<News>,
        organizations: Vec<OrganizationId>,
    ) -> Self {
        Self {
            news,
            organizations,
        }
    }

    fn tell(&self, message: u64, fate: Fate) {
        // Until the last slice is over the intake listens.
        let _ = self.news.send(News::Event { message, fate });
    }

    /// The organizations need not wait for what is left.
    fn free(&mut self) {
        let organizations = std::mem::take(&mut self.organizations);
        if !organizations.is_empty() {
            let _ = self.news.send(News::Over(organizations));
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.free();
    }
}

/// When events were last written, for all slices: a failure tells of the row only if others of its kind are
/// written meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Written(Mutex<LastWritten>);

#[derive(Debug, Default, Clone, Copy)]
struct LastWritten {
    any: Option<Instant>,
    with_deliveries: Option<Instant>,
}

impl Written {
    fn note(&self, given: &Given) {
        if given.new_events == 0 {
            return;
        }
        let now = Some(Instant::now());
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.any = now;
        if !given.owed.is_empty() {
            last.with_deliveries = now;
        }
    }

    fn of_kind(&self, piece: &Piece) -> Option<Instant> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match piece.events.iter().any(|one| one.deliveries > 0) {
            true => last.with_deliveries,
            false => last.any,
        }
    }
}

/// A part of a slice that is tried in one transaction.
#[derive(Default)]
struct Piece {
    events: Vec<Waiting>,
    tries: u32,
    failing_since: Option<Instant>,
    not_before: Option<Instant>,
    alone: LoneFailures,
}

impl Piece {
    fn of(events: Vec<Waiting>) -> Self {
        Self {
            events,
            ..Self::default()
        }
    }

    fn halves(mut self) -> [Self; 2] {
        let rest = self.events.split_off(self.events.len() / 2);
        [Self::of(self.events), Self::of(rest)]
    }

    fn is_one(&self) -> bool {
        self.events.len() == 1
    }

    /// Whether it fails while other events are written.
    fn is_suspect(&self, written: &Written) -> bool {
        let others = written.of_kind(self);
        self.failing_since.is_some_and(|since| others > Some(since))
    }

    fn put_off(&mut self, longest: Duration) -> Duration {
        let wait = FIRST_WAIT * (1 << self.tries.min(10));
        self.tries += 1;
        let wait = wait.min(longest);
        self.not_before = Some(Instant::now() + wait);
        wait
    }

    /// A transaction that failed may have been committed all the same, and its answer lost.
    fn passes_again(&mut self) {
        for one in &mut self.events {
            one.event.passage = Passage::Again;
        }
    }
}

/// What a piece that has failed is now.
enum Failed {
    Hold(Piece),
    Halve(Piece),
    AtFault(Waiting),
}

impl Intake {
    /// Brings a slice to its end: each of its events is reported once. `permit` is held while the slice
    /// uses the store.
    pub(crate) async fn work(
        &self,
        slice: Slice,
        mut permit: Option<OwnedSemaphorePermit>,
        mut report: Report,
    ) {
        let Slice {
            events, mut size, ..
        } = slice;
        let mut pieces = VecDeque::from([Piece::of(events)]);
        while let Some(mut piece) = self.next_of(&mut pieces).await {
            if permit.is_none() {
                permit = Arc::clone(&self.permits).acquire_owned().await.ok();
            }
            match self.take_in(&piece).await {
                Ok(Some(given)) => {
                    self.written.note(&given);
                    if size == Size::Broad {
                        permit = None;
                    }
                    let handed = self.hand_on(given, size).await;
                    for one in piece.events {
                        let fate = match handed {
                            Handed::All => Fate::HandedOn,
                            Handed::InPart => Fate::Unfinished,
                        };
                        report.tell(one.message, fate);
                    }
                }
                Ok(None) => {
                    // More than was known when the slice was cut.
                    size = Size::Broad;
                    self.halve(piece, &mut pieces);
                }
                Err(why) => {
                    permit = None;
                    piece.passes_again();
                    match self.failed(piece, &why) {
                        Failed::Hold(piece) => pieces.push_back(piece),
                        Failed::Halve(piece) => self.halve(piece, &mut pieces),
                        Failed::AtFault(one) => {
                            let event = one.event.event;
                            let fault = Fault {
                                event: event.id,
                                organization: event.organization,
                                reason: why.to_string(),
                            };
                            report.tell(one.message, Fate::AtFault(fault));
                        }
                    }
                }
            }
            let is_held_up = |piece: &Piece| piece.is_one() && piece.is_suspect(&self.written);
            if pieces.iter().all(is_held_up) {
                report.free();
            }
        }
        for one in pieces.into_iter().flat_map(|piece| piece.events) {
            report.tell(one.message, Fate::Unfinished);
        }
    }

    /// The piece that is due first; none when the process is late, or nothing is left.
    async fn next_of(&self, pieces: &mut VecDeque<Piece>) -> Option<Piece> {
        let late = &self.shutdown.late;
        pieces
            .make_contiguous()
            .sort_by_key(|piece| piece.not_before);
        if let Some(at) = pieces.front()?.not_before {
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                () = late.cancelled() => {}
            }
            if late.is_cancelled() {
                return None;
            }
        }
        pieces.pop_front()
    }

    /// None where they make too many deliveries for one transaction.
    async fn take_in(&self, piece: &Piece) -> Result<Option<Given>, StoreError> {
        let events: Arc<[IncomingEvent]> =
            piece.events.iter().map(|one| one.event.clone()).collect();
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

    async fn hand_on(&self, given: Given, size: Size) -> Handed {
        let owed: Vec<OwedAttempt> = given.owed;
        let attempts = owed.len();
        let handed = self.pace.hand_on(owed, size, &self.shutdown.late).await;
        if handed == Handed::All {
            tracing::debug!(attempts, "took events in");
            fault::point("ingest::published");
        }
        handed
    }

    /// How many deliveries its events make is known better by now, where it was unknown.
    fn halve(&self, piece: Piece, pieces: &mut VecDeque<Piece>) {
        for half in piece.halves().into_iter().rev() {
            if !half.events.is_empty() {
                pieces.push_front(half);
            }
        }
    }

    fn failed(&self, mut piece: Piece, why: &StoreError) -> Failed {
        let now = Instant::now();
        let is_transient = why.is_transient();
        let since = *piece.failing_since.get_or_insert(now);
        if piece.is_one() {
            let verdict = piece.alone.failed(now, self.written.of_kind(&piece));
            if (!is_transient || verdict == Verdict::PutAside)
                && let Some(one) = piece.events.pop()
            {
                return Failed::AtFault(one);
            }
        } else if !is_transient
            || piece.is_suspect(&self.written)
            || (self.ingest.store.can_be_written() && now.duration_since(since) >= HALVED_AFTER)
        {
            return Failed::Halve(piece);
        }
        let longest = match piece.is_suspect(&self.written) {
            true => LONGEST_LONE_WAIT,
            false => LONGEST_WAIT,
        };
        let wait = piece.put_off(longest);
        tracing::warn!(
            what = "take events in",
            events = piece.events.len(),
            error = %why,
            wait_ms = wait.as_millis(),
            "could not go on, trying again"
        );
        Failed::Hold(piece)
    }
}
