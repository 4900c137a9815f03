//! The task that beats, takes partitions and hands them over, as [`Membership`] decides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_core::ids::SubscriptionId;
use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_core::timestamp::Timestamp;
use hookline_runtime::shutdown::Shutdown;
use hookline_store::{ClusterState, HandOver, Heartbeat, PartitionOwner, StoreError};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::liveness::Read;
use super::membership::{Answered, Leave, Membership};
use super::owned::Publisher;
use super::progress::Progress;
use super::registry::Registry;
use super::{BEAT_EVERY, BEFORE_HAND_OVER, Owned, PATIENCE, note};

/// The time between two checks whether noted requests are over.
const NOTE_EVERY: Duration = Duration::from_millis(250);

/// The time to the next beat while another dispatcher is about to hand partitions over.
const BEAT_SOON: Duration = Duration::from_millis(150);

/// The longest wait for an announced change of the number of partitions.
const CHANGE_AT_MOST: Duration = Duration::from_secs(20);
/// A process gives its partitions up when answered beats find for this long that it cannot write. After an outage of
/// the store, one process writes again earlier than another.
const UNABLE_FOR: Duration = Duration::from_secs(3);

/// The requests of this process.
pub(crate) trait InFlight: Send + Sync + 'static {
    /// The subscriptions of a partition with requests in flight, and the latest end of these, in service time.
    fn of(&self, partition: Partition) -> Vec<(SubscriptionId, Timestamp)>;
}

/// The parts that the task works with.
pub(crate) struct Keeping<R, F> {
    /// Has a connection of its own, so that nothing delays a beat.
    pub(crate) registry: Arc<R>,
    pub(crate) in_flight: Arc<F>,
    /// False while writes fail, or no receiver can be reached.
    pub(crate) able: Box<dyn Fn() -> bool + Send + Sync>,
    pub(crate) turns: Progress,
    pub(crate) shutdown: Shutdown,
}

/// Starts the task. It ends after `shutdown.draining`, when the store confirms that nothing is owned and no request is
/// in flight. It ends at `shutdown.deadline` at the latest.
pub(crate) fn keep<R: Registry, F: InFlight>(
    keeping: Keeping<R, F>,
) -> (Owned, impl Future<Output = ()> + Send) {
    let (owned, publisher) = Owned::new();
    let keeper = Keeper {
        keeping,
        publisher,
        membership: Membership::new(new_id()),
        partitions: None,
        change_since: None,
        registered: false,
        draining: false,
        fails: false,
        hangs: false,
        stands_by: false,
        expects_partitions: false,
        unable_since: None,
        hand_overs: JoinSet::new(),
        notes: JoinSet::new(),
    };
    (owned, keeper.run())
}

pub(super) fn new_id() -> DispatcherId {
    DispatcherId(Uuid::new_v4())
}

/// A hand-over that was answered, or failed.
struct HandedOver {
    leaves: Vec<Leave>,
    noted: Vec<Noted>,
}

/// A note of this process in a partition of another one.
struct Noted {
    partition: Partition,
    /// The epoch of the successor.
    epoch: i64,
    until: Timestamp,
}

struct Keeper<R, F> {
    keeping: Keeping<R, F>,
    publisher: Publisher,
    membership: Membership,
    /// None while the number changes.
    partitions: Option<Partitions>,
    change_since: Option<Instant>,
    registered: bool,
    draining: bool,
    /// The last call of the store failed.
    fails: bool,
    hangs: bool,
    stands_by: bool,
    /// Another dispatcher stops and has not handed over all of its partitions.
    expects_partitions: bool,
    /// The first in a row of answered beats at which this process could not write.
    unable_since: Option<Instant>,
    hand_overs: JoinSet<HandedOver>,
    notes: JoinSet<()>,
}

impl<R: Registry, F: InFlight> Keeper<R, F> {
    async fn run(mut self) {
        let Shutdown { draining, deadline } = self.keeping.shutdown.clone();
        let mut ticks = tokio::time::interval(BEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = deadline.cancelled() => break,
                () = draining.cancelled(), if !self.draining => self.draining = true,
                Some(handed_over) = self.hand_overs.join_next() => {
                    self.handed_over(handed_over.ok());
                    if !self.draining {
                        continue;
                    }
                }
                _ = ticks.tick() => {}
            }
            let answered = self.turn().await;
            if self.expects_partitions {
                ticks.reset_after(BEAT_SOON);
            }
            if self.draining && answered && self.has_ended() {
                break;
            }
        }
        if self.registered {
            let gone = self
                .keeping
                .registry
                .unregister_dispatcher(self.membership.id());
            if let Err(why) = in_time(gone).await {
                tracing::warn!(error = %why, "could not unregister the dispatcher");
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        while self.notes.try_join_next().is_some() {}
        self.membership.is_empty() && self.hand_overs.is_empty() && self.notes.is_empty()
    }

    /// Returns true where the store answered a beat, or there is nothing to tell it.
    async fn turn(&mut self) -> bool {
        let sent = now();
        let hanging = self.keeping.turns.hanging(sent);
        // Parts that have ended finish no turns.
        if let Some(part) = hanging.filter(|_| !self.draining) {
            if !self.hangs {
                let part = part.name();
                tracing::error!(
                    part,
                    "a part of the dispatcher hangs; its partitions are left to others"
                );
            }
            self.hangs = true;
            self.membership.missed();
            return false;
        }
        self.hangs = false;
        if !self.registered {
            if self.draining {
                return true;
            }
            let registered = self
                .keeping
                .registry
                .register_dispatcher(self.membership.id());
            if self.noted(in_time(registered).await).is_none() {
                return false;
            }
            self.registered = true;
        }
        self.beat().await
    }

    async fn beat(&mut self) -> bool {
        let sent = now();
        let beat = Heartbeat {
            id: self.membership.id(),
            draining: self.draining,
            can_deliver: self.is_able(sent),
        };
        let answer = in_time(self.keeping.registry.beat(beat)).await;
        let answered = now();
        match self.noted(answer) {
            Some(Some(found)) => self.follow(beat, found, Read { sent, answered }).await,
            Some(None) => self.start_anew(),
            None => {
                self.expects_partitions = false;
                self.membership.missed();
                self.unable_since = None;
                return false;
            }
        }
        true
    }

    fn is_able(&mut self, now: Instant) -> bool {
        if (self.keeping.able)() {
            self.unable_since = None;
            return true;
        }
        let since = *self.unable_since.get_or_insert(now);
        now.saturating_duration_since(since) < UNABLE_FOR
    }

    async fn follow(&mut self, beat: Heartbeat, found: (ClusterState, Partitions), read: Read) {
        let before = self.held();
        let (roster, partitions) = found;
        self.expects_partitions = !self.draining && is_left(&roster);
        self.partitions = Some(partitions).filter(|_| !self.changes(&roster, read.answered));
        let answered = Answered {
            roster: &roster,
            partitions,
            read,
        };
        let steps = self.membership.answered(beat, answered);
        let left: BTreeSet<_> = steps.leaves.iter().map(|leave| leave.partition).collect();
        // After a lapse, this dispatcher acts for no partition before it has claimed it.
        if !steps.lapsed {
            self.publish();
        }
        self.begin_hand_over(steps.leaves);
        if !steps.claims.is_empty() {
            let taken = self
                .keeping
                .registry
                .claim_partitions(beat.id, steps.claims);
            if let Some(taken) = self.noted(in_time(taken).await) {
                self.membership.took(taken);
            }
        }
        self.publish();
        let after = self.held();
        let lost = before
            .difference(&after)
            .filter(|each| !left.contains(each));
        log(after.difference(&before).count(), lost.count());
        let stands_by = self.membership.stands_by();
        if stands_by && !self.stands_by {
            let partitions = partitions.count();
            tracing::info!(
                partitions,
                "stands by: other dispatchers own all partitions, one each at most"
            );
        }
        self.stands_by = stands_by;
    }

    /// Whether the number of partitions is about to change. A dispatcher with the old number and one with the new
    /// number would both start a delivery. One would do so because of a wake-up, the other because of a look. Until the
    /// change is made, looks alone count therefore. An announcement that stays comes from a command that was
    /// interrupted.
    fn changes(&mut self, roster: &ClusterState, now: Instant) -> bool {
        let announced = |holding: &PartitionOwner| holding.partition == Partition::CHANGE;
        if !roster.partitions.iter().any(announced) {
            self.change_since = None;
            return false;
        }
        let since = *self.change_since.get_or_insert(now);
        now.saturating_duration_since(since) < CHANGE_AT_MOST
    }

    fn held(&self) -> BTreeSet<Partition> {
        self.membership.held().keys().copied().collect()
    }

    fn publish(&self) {
        let held = self.membership.held();
        let valid_until = self.membership.valid_until();
        self.publisher
            .publish(held, valid_until, self.partitions, hookline_clock::now());
    }

    /// Starts with a new id, because the row of this dispatcher is gone.
    fn start_anew(&mut self) {
        let lost = self.membership.held().len();
        self.membership = Membership::new(new_id());
        self.registered = false;
        self.publish();
        log(0, lost);
    }

    fn begin_hand_over(&mut self, leaves: Vec<Leave>) {
        if leaves.is_empty() {
            return;
        }
        let registry = Arc::clone(&self.keeping.registry);
        let in_flight = Arc::clone(&self.keeping.in_flight);
        let id = self.membership.id();
        self.hand_overs.spawn(async move {
            tokio::time::sleep(BEFORE_HAND_OVER).await;
            hand_over(&*registry, &*in_flight, id, leaves).await
        });
    }

    fn handed_over(&mut self, handed_over: Option<HandedOver>) {
        let Some(HandedOver { leaves, noted }) = handed_over else {
            return;
        };
        self.membership.tried(&leaves, now());
        if !noted.is_empty() {
            let registry = Arc::clone(&self.keeping.registry);
            let in_flight = Arc::clone(&self.keeping.in_flight);
            self.notes
                .spawn(async move { empty_notes(&*registry, &*in_flight, noted).await });
        }
    }

    /// Logs the first failure in a row.
    fn noted<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        match result {
            Ok(answer) => {
                self.fails = false;
                Some(answer)
            }
            Err(why) => {
                if !self.fails {
                    tracing::warn!(error = %why, "could not beat, trying again");
                }
                self.fails = true;
                None
            }
        }
    }
}

async fn hand_over<R: Registry, F: InFlight>(
    registry: &R,
    in_flight: &F,
    id: DispatcherId,
    leaves: Vec<Leave>,
) -> HandedOver {
    let mut noted = Vec::new();
    let mut hand_overs = Vec::new();
    for leave in &leaves {
        let flights = in_flight.of(leave.partition);
        let latest = flights.iter().map(|(_, until)| *until).max();
        noted.extend(latest.map(|until| Noted {
            partition: leave.partition,
            epoch: leave.epoch + 1,
            until,
        }));
        hand_overs.push(HandOver {
            partition: leave.partition,
            epoch: leave.epoch,
            to: leave.to,
            note: note::write(&flights),
        });
    }
    let left = match in_time(registry.hand_over(id, hand_overs)).await {
        Ok(left) => left,
        Err(why) => {
            tracing::warn!(error = %why, "could not hand partitions over, trying again");
            Vec::new()
        }
    };
    if !left.is_empty() {
        tracing::info!(count = left.len(), "handed partitions over");
    }
    noted.retain(|note| left.contains(&note.partition));
    HandedOver { leaves, noted }
}

/// Empties each note when its requests are over. After a failure the note stays until its times have passed.
async fn empty_notes<R: Registry, F: InFlight>(registry: &R, in_flight: &F, mut noted: Vec<Noted>) {
    while !noted.is_empty() {
        tokio::time::sleep(NOTE_EVERY).await;
        let service_time = hookline_clock::now();
        let over =
            |note: &mut Noted| note.until < service_time || in_flight.of(note.partition).is_empty();
        for note in noted.extract_if(.., over).collect::<Vec<_>>() {
            let emptied = registry.note(note.partition, note.epoch, String::new());
            if let Err(why) = in_time(emptied).await {
                tracing::warn!(error = %why, "could not empty the note of a partition");
            }
        }
    }
}

/// Whether a dispatcher that stops still owns partitions.
fn is_left(roster: &ClusterState) -> bool {
    let stopping = roster.dispatchers.iter().filter(|each| each.draining);
    let owns = |id| roster.partitions.iter().any(|each| each.owner == Some(id));
    stopping.map(|each| each.id).any(owns)
}

fn log(took: usize, lost: usize) {
    if took > 0 {
        tracing::info!(count = took, "took partitions");
    }
    if lost > 0 {
        tracing::info!(count = lost, "lost partitions");
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::Unavailable("no answer in time".to_owned());
    let answer = tokio::time::timeout(PATIENCE, call).await;
    answer.unwrap_or_else(|_| Err(late()))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
