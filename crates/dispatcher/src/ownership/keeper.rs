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
use uuid::Uuid;

use crate::context::ticks_every;

use super::liveness::RosterRead;
use super::membership::{AnsweredBeat, Membership, Release};
use super::note;
use super::owned::{OwnedPartitions, OwnershipPublisher};
use super::registry::Registry;
use super::watchdog::Watchdog;

/// The time between two beats of a dispatcher.
pub(super) const BEAT_EVERY: Duration = Duration::from_millis(500);

/// The longest wait for an answer of the store.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The wait before a hand-over. By then the requests that were about to be sent have passed to a connection.
pub(super) const BEFORE_HAND_OVER: Duration = Duration::from_millis(250);

/// The time between two checks whether noted requests are over.
const NOTE_EVERY: Duration = Duration::from_millis(250);

/// The time to the next beat while another dispatcher is about to hand partitions over.
const EARLY_BEAT_AFTER: Duration = Duration::from_millis(150);

/// The longest wait for an announced change of the number of partitions.
const CHANGE_AT_MOST: Duration = Duration::from_secs(20);
/// A process gives its partitions up when answered beats find for this long that it cannot write. After an outage of
/// the store, one process writes again earlier than another.
const UNABLE_FOR: Duration = Duration::from_secs(3);

/// The requests of this process.
pub(crate) trait InFlightByPartition: Send + Sync + 'static {
    /// The subscriptions of a partition with requests in flight, and the latest end of these, in service time.
    fn of(&self, partition: Partition) -> Vec<(SubscriptionId, Timestamp)>;
}

/// The parts that the task works with.
pub(crate) struct KeeperParts<R, F> {
    /// Has a connection of its own, so that nothing delays a beat.
    pub(crate) registry: Arc<R>,
    pub(crate) in_flight: Arc<F>,
    /// False while writes fail, or no receiver can be reached.
    pub(crate) able: Box<dyn Fn() -> bool + Send + Sync>,
    pub(crate) watchdog: Watchdog,
    pub(crate) shutdown: Shutdown,
}

/// Starts the task. It ends after `shutdown.draining`, when the store confirms that nothing is owned and no request is
/// in flight. It ends at `shutdown.deadline` at the latest.
pub(crate) fn keep<R: Registry, F: InFlightByPartition>(
    parts: KeeperParts<R, F>,
) -> (OwnedPartitions, impl Future<Output = ()> + Send) {
    let (owned, publisher) = OwnedPartitions::new();
    let keeper = Keeper {
        parts,
        publisher,
        membership: Membership::new(new_id()),
        partitions: None,
        change_since: None,
        registered: false,
        draining: false,
        store_fails: false,
        is_hanging: false,
        is_standby: false,
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
    releases: Vec<Release>,
    written_notes: Vec<WrittenNote>,
}

/// A note of this process in a partition of another one.
struct WrittenNote {
    partition: Partition,
    /// The epoch of the successor.
    epoch: i64,
    until: Timestamp,
}

struct Keeper<R, F> {
    parts: KeeperParts<R, F>,
    publisher: OwnershipPublisher,
    membership: Membership,
    /// None while the number changes.
    partitions: Option<Partitions>,
    change_since: Option<Instant>,
    registered: bool,
    draining: bool,
    /// The last call of the store failed.
    store_fails: bool,
    is_hanging: bool,
    is_standby: bool,
    /// Another dispatcher stops and has not handed over all of its partitions.
    expects_partitions: bool,
    /// The first in a row of answered beats at which this process could not write.
    unable_since: Option<Instant>,
    hand_overs: JoinSet<HandedOver>,
    notes: JoinSet<()>,
}

impl<R: Registry, F: InFlightByPartition> Keeper<R, F> {
    async fn run(mut self) {
        let Shutdown { draining, deadline } = self.parts.shutdown.clone();
        let mut ticks = ticks_every(BEAT_EVERY);
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
            let answered = self.tick().await;
            if self.expects_partitions {
                ticks.reset_after(EARLY_BEAT_AFTER);
            }
            if self.draining && answered && self.has_ended() {
                break;
            }
        }
        if self.registered {
            let id = self.membership.id();
            if let Err(why) = in_time(self.parts.registry.unregister_dispatcher(id)).await {
                tracing::warn!(error = %why, "could not unregister the dispatcher");
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        while self.notes.try_join_next().is_some() {}
        self.membership.is_empty() && self.hand_overs.is_empty() && self.notes.is_empty()
    }

    /// Returns true where the store answered a beat, or there is nothing to tell it.
    async fn tick(&mut self) -> bool {
        let sent = now();
        let registry = Arc::clone(&self.parts.registry);
        let hanging = self.parts.watchdog.hanging(sent);
        // Parts that have ended finish no turns.
        if let Some(part) = hanging.filter(|_| !self.draining) {
            if !self.is_hanging {
                let part: &str = part.into();
                tracing::error!(
                    part,
                    "a part of the dispatcher hangs; its partitions are left to others"
                );
            }
            self.is_hanging = true;
            self.membership.missed();
            return false;
        }
        self.is_hanging = false;
        if !self.registered {
            if self.draining {
                return true;
            }
            let registered = registry.register_dispatcher(self.membership.id());
            if self.ask(registered).await.is_none() {
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
        let registry = Arc::clone(&self.parts.registry);
        let answer = self.ask(registry.beat(beat)).await;
        let answered = now();
        match answer {
            Some(Some(found)) => self.apply(beat, found, RosterRead { sent, answered }).await,
            Some(None) => self.register_again(),
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
        if (self.parts.able)() {
            self.unable_since = None;
            return true;
        }
        let since = *self.unable_since.get_or_insert(now);
        now.saturating_duration_since(since) < UNABLE_FOR
    }

    async fn apply(
        &mut self,
        beat: Heartbeat,
        found: (ClusterState, Partitions),
        read: RosterRead,
    ) {
        let before = self.held();
        let (roster, partitions) = found;
        self.expects_partitions = !self.draining && is_left(&roster);
        self.partitions =
            Some(partitions).filter(|_| !self.is_count_changing(&roster, read.answered));
        let answered = AnsweredBeat {
            roster: &roster,
            partitions,
            read,
        };
        let steps = self.membership.answered(beat, answered);
        let left = steps.releases.iter().map(|release| release.partition);
        let left: BTreeSet<_> = left.collect();
        // After a lapse, this dispatcher acts for no partition before it has claimed it.
        if !steps.lapsed {
            self.publish();
        }
        self.begin_hand_over(steps.releases);
        if !steps.claims.is_empty() {
            let registry = Arc::clone(&self.parts.registry);
            let taken = registry.claim_partitions(beat.id, steps.claims);
            if let Some(taken) = self.ask(taken).await {
                self.membership.claimed(taken);
            }
        }
        self.publish();
        let after = self.held();
        let lost = before
            .difference(&after)
            .filter(|each| !left.contains(each));
        log(after.difference(&before).count(), lost.count());
        let is_standby = self.membership.is_standby();
        if is_standby && !self.is_standby {
            let partitions = partitions.count();
            tracing::info!(
                partitions,
                "stands by: other dispatchers own all partitions, one each at most"
            );
        }
        self.is_standby = is_standby;
    }

    /// Whether the number of partitions is about to change. A dispatcher with the old number and one with the new
    /// number would both start a delivery. One would do so because of a wake-up, the other because of a look. Until the
    /// change is made, looks alone count therefore. An announcement that stays comes from a command that was
    /// interrupted.
    fn is_count_changing(&mut self, roster: &ClusterState, now: Instant) -> bool {
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
    fn register_again(&mut self) {
        let lost = self.membership.held().len();
        self.membership = Membership::new(new_id());
        self.registered = false;
        self.publish();
        log(0, lost);
    }

    fn begin_hand_over(&mut self, releases: Vec<Release>) {
        if releases.is_empty() {
            return;
        }
        let registry = Arc::clone(&self.parts.registry);
        let in_flight = Arc::clone(&self.parts.in_flight);
        let id = self.membership.id();
        self.hand_overs.spawn(async move {
            tokio::time::sleep(BEFORE_HAND_OVER).await;
            hand_over(&*registry, &*in_flight, id, releases).await
        });
    }

    fn handed_over(&mut self, handed_over: Option<HandedOver>) {
        let Some(HandedOver {
            releases,
            written_notes,
        }) = handed_over
        else {
            return;
        };
        self.membership.hand_over_ended(&releases, now());
        if !written_notes.is_empty() {
            let registry = Arc::clone(&self.parts.registry);
            let in_flight = Arc::clone(&self.parts.in_flight);
            self.notes
                .spawn(async move { empty_notes(&*registry, &*in_flight, written_notes).await });
        }
    }

    /// Calls the store. Logs the first failure in a row.
    async fn ask<T>(&mut self, call: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        match in_time(call).await {
            Ok(answer) => {
                self.store_fails = false;
                Some(answer)
            }
            Err(why) => {
                if !self.store_fails {
                    tracing::warn!(error = %why, "could not send heartbeat, trying again");
                }
                self.store_fails = true;
                None
            }
        }
    }
}

async fn hand_over<R: Registry, F: InFlightByPartition>(
    registry: &R,
    in_flight: &F,
    id: DispatcherId,
    releases: Vec<Release>,
) -> HandedOver {
    let mut written_notes = Vec::new();
    let mut hand_overs = Vec::new();
    for release in &releases {
        let flights = in_flight.of(release.partition);
        let latest = flights.iter().map(|(_, until)| *until).max();
        written_notes.extend(latest.map(|until| WrittenNote {
            partition: release.partition,
            epoch: release.epoch + 1,
            until,
        }));
        hand_overs.push(HandOver {
            partition: release.partition,
            epoch: release.epoch,
            to: release.to,
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
    written_notes.retain(|note| left.contains(&note.partition));
    HandedOver {
        releases,
        written_notes,
    }
}

/// Empties each note when its requests are over. After a failure the note stays until its times have passed.
async fn empty_notes<R: Registry, F: InFlightByPartition>(
    registry: &R,
    in_flight: &F,
    mut written_notes: Vec<WrittenNote>,
) {
    while !written_notes.is_empty() {
        tokio::time::sleep(NOTE_EVERY).await;
        let service_time = hookline_clock::now();
        let over = |note: &mut WrittenNote| {
            note.until < service_time || in_flight.of(note.partition).is_empty()
        };
        for note in written_notes.extract_if(.., over).collect::<Vec<_>>() {
            let emptied = registry.note(note.partition, note.epoch, String::new());
            if let Err(why) = in_time(emptied).await {
                tracing::warn!(error = %why, "could not clear note of partition");
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
