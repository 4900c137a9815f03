use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hookline_core::ids::SubscriptionId;
use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_core::timestamp::Timestamp;
use hookline_runtime::shutdown::Shutdown;
use hookline_store::{
    ClusterState, HandOver, Heartbeat, PartitionClaim, PartitionOwner, StoreError,
};
use tokio::task::JoinHandle;

use super::model::Model;
use super::note::BlockedSubscription;
use super::registry::Registry;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Shared {
    model: Mutex<Model>,
    away: AtomicBool,
}

impl Shared {
    fn new(partitions: u16) -> Arc<Self> {
        Arc::new(Self {
            model: Mutex::new(Model::new(Partitions::new(partitions).unwrap())),
            away: AtomicBool::new(false),
        })
    }

    fn ask<T>(&self, question: impl FnOnce(&mut Model) -> T) -> Result<T, StoreError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("away".to_owned()));
        }
        Ok(question(&mut self.model.lock().unwrap()))
    }

    fn announce_change(&self) {
        let announcement = PartitionOwner {
            partition: Partition::CHANGE,
            owner: None,
            epoch: 0,
            deaths: 0,
            note: String::new(),
        };
        self.model.lock().unwrap().holdings.push(announcement);
    }

    fn roster(&self) -> ClusterState {
        self.model.lock().unwrap().roster()
    }

    fn owners(&self) -> Vec<Option<DispatcherId>> {
        let roster = self.roster();
        roster.partitions.iter().map(|each| each.owner).collect()
    }
}

impl Registry for Shared {
    async fn register_dispatcher(&self, id: DispatcherId) -> Result<(), StoreError> {
        self.ask(|model| model.register(id))
    }

    async fn beat(
        &self,
        beat: Heartbeat,
    ) -> Result<Option<(ClusterState, Partitions)>, StoreError> {
        self.ask(|model| {
            let registered = model.raise(beat);
            registered.then(|| (model.roster(), model.partitions))
        })
    }

    async fn claim_partitions(
        &self,
        id: DispatcherId,
        claims: Vec<PartitionClaim>,
    ) -> Result<Vec<PartitionOwner>, StoreError> {
        self.ask(|model| model.take(id, &claims))
    }

    async fn hand_over(
        &self,
        id: DispatcherId,
        all: Vec<HandOver>,
    ) -> Result<Vec<Partition>, StoreError> {
        self.ask(|model| model.hand_over(id, &all))
    }

    async fn note(&self, at: Partition, epoch: i64, note: String) -> Result<(), StoreError> {
        self.ask(|model| model.note(at, epoch, &note))
    }

    async fn unregister_dispatcher(&self, id: DispatcherId) -> Result<(), StoreError> {
        self.ask(|model| model.unregister(id))
    }
}

/// The requests in flight in partition 0.
#[derive(Default)]
struct TestInFlight(Mutex<Vec<(SubscriptionId, Timestamp)>>);

impl InFlightByPartition for TestInFlight {
    fn of(&self, partition: Partition) -> Vec<(SubscriptionId, Timestamp)> {
        match partition {
            Partition(0) => self.0.lock().unwrap().clone(),
            _ => Vec::new(),
        }
    }
}

struct RunningKeeper {
    owned: OwnedPartitions,
    flights: Arc<TestInFlight>,
    watchdog: Watchdog,
    able: Arc<AtomicBool>,
    shutdown: Shutdown,
    task: JoinHandle<()>,
    /// Finishes turns of all parts.
    working: JoinHandle<()>,
}

impl RunningKeeper {
    fn start(store: &Arc<Shared>) -> Self {
        let flights = Arc::new(TestInFlight::default());
        let watchdog = Watchdog::new(now());
        let able = Arc::new(AtomicBool::new(true));
        let is_able = Arc::clone(&able);
        let shutdown = Shutdown::default();
        let (owned, task) = keep(KeeperParts {
            registry: Arc::clone(store),
            in_flight: Arc::clone(&flights),
            able: Box::new(move || is_able.load(Ordering::Relaxed)),
            watchdog: watchdog.clone(),
            shutdown: shutdown.clone(),
        });
        let working = watchdog.clone();
        Self {
            owned,
            flights,
            watchdog,
            able,
            shutdown,
            task: tokio::spawn(task),
            working: tokio::spawn(async move {
                loop {
                    for part in [
                        WatchedPart::Scheduler,
                        WatchedPart::Look,
                        WatchedPart::Recorder,
                    ] {
                        working.finished(part, now());
                    }
                    tokio::time::sleep(SECOND).await;
                }
            }),
        }
    }

    async fn owns(&mut self, count: usize) {
        while self.owned.list().len() != count {
            self.owned.changed().await;
        }
    }

    fn acts_for(&self, partition: u16) -> bool {
        let partition = Partition(partition);
        let held = self.owned.get_owned(partition);
        held.is_some_and(|held| self.owned.may_start(partition, held.epoch, now()))
    }

    async fn stop(self) {
        self.shutdown.draining.cancel();
        self.task.await.unwrap();
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[tokio::test(start_paused = true)]
async fn a_single_dispatcher_takes_all_partitions_and_frees_them_when_it_stops() {
    let store = Shared::new(4);
    let mut one = RunningKeeper::start(&store);
    one.owns(4).await;
    let held = one.owned.get_owned(Partition(3)).unwrap();
    assert!(one.owned.may_start(Partition(3), held.epoch, now()));
    assert!(!one.owned.may_start(Partition(3), held.epoch - 1, now()));
    let asked = now();
    one.stop().await;
    assert!(now() - asked <= SECOND);
    assert_eq!(store.owners(), [None; 4]);
    assert!(store.roster().dispatchers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_note_of_a_hand_over_names_the_requests_in_flight_until_they_end() {
    let store = Shared::new(2);
    let mut one = RunningKeeper::start(&store);
    one.owns(2).await;
    let flight = (
        SubscriptionId(4),
        hookline_clock::now().after(3_600 * SECOND),
    );
    one.flights.0.lock().unwrap().push(flight);
    let flights = Arc::clone(&one.flights);
    let mut two = RunningKeeper::start(&store);
    tokio::time::sleep(SECOND * 2).await;
    let stopping = tokio::spawn(one.stop());
    two.owns(2).await;
    let blocked = |owned: &OwnedPartitions| owned.get_owned(Partition(0)).unwrap().blocked;
    let (subscription, until) = flight;
    assert_eq!(
        *blocked(&two.owned),
        [BlockedSubscription {
            subscription,
            until
        }]
    );
    assert!(
        two.owned
            .get_owned(Partition(1))
            .unwrap()
            .blocked
            .is_empty()
    );
    tokio::time::sleep(SECOND * 10).await;
    assert!(!stopping.is_finished(), "a request is in flight");
    flights.0.lock().unwrap().clear();
    while !blocked(&two.owned).is_empty() {
        two.owned.changed().await;
    }
    stopping.await.unwrap();
    assert!(two.acts_for(0));
}

#[tokio::test(start_paused = true)]
async fn the_partitions_of_a_dispatcher_that_stops_have_an_owner_half_a_second_later() {
    for phase in 0..10 {
        let store = Shared::new(8);
        let (one, mut two) = (RunningKeeper::start(&store), RunningKeeper::start(&store));
        two.owns(4).await;
        tokio::time::sleep(SECOND + SECOND / 20 * phase).await;
        let asked = now();
        let stopping = tokio::spawn(one.stop());
        two.owns(8).await;
        assert!(now() - asked <= SECOND / 2, "{phase}: {:?}", now() - asked);
        stopping.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_hangs_ends_the_ownership() {
    let store = Shared::new(1);
    let mut one = RunningKeeper::start(&store);
    one.owns(1).await;
    tokio::time::sleep(SECOND * 20).await;
    assert!(one.acts_for(0));
    one.working.abort();
    tokio::time::sleep(SECOND * 9).await;
    assert!(!one.acts_for(0));
    let beat = store.roster().dispatchers[0].heartbeat;
    tokio::time::sleep(SECOND * 9).await;
    assert_eq!(store.roster().dispatchers[0].heartbeat, beat);
    for part in [
        WatchedPart::Scheduler,
        WatchedPart::Look,
        WatchedPart::Recorder,
    ] {
        one.watchdog.finished(part, now());
    }
    tokio::time::sleep(SECOND).await;
    assert!(one.acts_for(0));
}

#[tokio::test(start_paused = true)]
async fn an_owner_pauses_while_the_store_is_away_and_resumes_afterwards() {
    let store = Shared::new(2);
    let mut one = RunningKeeper::start(&store);
    one.owns(2).await;
    let before = one.owned.get_owned(Partition(0)).unwrap();
    store.away.store(true, Ordering::Relaxed);
    tokio::time::sleep(SECOND * 2).await;
    assert!(one.acts_for(0));
    tokio::time::sleep(SECOND).await;
    assert!(!one.acts_for(0));
    store.away.store(false, Ordering::Relaxed);
    tokio::time::sleep(SECOND).await;
    let after = one.owned.get_owned(Partition(0)).unwrap();
    assert!(one.acts_for(0));
    assert_eq!((after.epoch, after.deaths), (before.epoch + 1, 0));
}

#[tokio::test(start_paused = true)]
async fn two_dispatchers_share_the_partitions() {
    let store = Shared::new(8);
    let (mut one, mut two) = (RunningKeeper::start(&store), RunningKeeper::start(&store));
    one.owns(4).await;
    two.owns(4).await;
    two.task.abort();
    one.owns(8).await;
    let deaths = one.owned.list().iter().map(|held| held.deaths).sum::<u32>();
    assert_eq!(deaths, 4);
}

#[tokio::test(start_paused = true)]
async fn during_a_change_of_their_number_subscriptions_have_no_partition_for_20_seconds_at_most() {
    let store = Shared::new(2);
    let mut one = RunningKeeper::start(&store);
    one.owns(2).await;
    let partition = || one.owned.partition_of(SubscriptionId(5));
    assert_eq!(partition(), Some(Partition(1)));
    store.announce_change();
    tokio::time::sleep(SECOND).await;
    assert_eq!(partition(), None);
    assert!(one.acts_for(0) && one.acts_for(1));
    // The change was made.
    store.model.lock().unwrap().holdings.pop();
    tokio::time::sleep(SECOND).await;
    assert_eq!(partition(), Some(Partition(1)));
    // The change was announced and not made.
    store.announce_change();
    tokio::time::sleep(SECOND * 19).await;
    assert_eq!(partition(), None);
    tokio::time::sleep(SECOND * 3).await;
    assert_eq!(partition(), Some(Partition(1)));
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_recovers_late_from_an_outage_keeps_its_partitions() {
    let store = Shared::new(8);
    let (mut one, mut two) = (RunningKeeper::start(&store), RunningKeeper::start(&store));
    one.owns(4).await;
    two.owns(4).await;
    let before = store.owners();
    store.away.store(true, Ordering::Relaxed);
    two.able.store(false, Ordering::Relaxed);
    tokio::time::sleep(SECOND * 10).await;
    store.away.store(false, Ordering::Relaxed);
    tokio::time::sleep(SECOND * 2).await;
    two.able.store(true, Ordering::Relaxed);
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(store.owners(), before);
    two.able.store(false, Ordering::Relaxed);
    one.owns(8).await;
    assert!(two.owned.list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dead_dispatcher_gets_no_partition_after_an_outage() {
    let store = Shared::new(9);
    let (mut one, mut two, mut three) = (
        RunningKeeper::start(&store),
        RunningKeeper::start(&store),
        RunningKeeper::start(&store),
    );
    one.owns(3).await;
    two.owns(3).await;
    three.owns(3).await;
    three.task.abort();
    tokio::time::sleep(SECOND * 10).await;
    let before = store.owners();
    assert_eq!(one.owned.list().len() + two.owned.list().len(), 9);
    store.away.store(true, Ordering::Relaxed);
    tokio::time::sleep(SECOND * 10).await;
    store.away.store(false, Ordering::Relaxed);
    for _ in 0..20 {
        tokio::time::sleep(SECOND / 2).await;
        assert_eq!(store.owners(), before);
    }
}

#[tokio::test]
async fn the_dispatcher_of_a_folder_takes_all_partitions_at_once() {
    let store = Shared::new(2);
    let (_, dead) = take_all(Arc::clone(&store)).await.unwrap();
    drop(dead);
    let (owned, sole) = take_all(Arc::clone(&store)).await.unwrap();
    let held = owned.list();
    assert_eq!(held.len(), 2);
    assert!(held.iter().all(|held| held.deaths == 1));
    let late = Instant::now() + SECOND * 3_600;
    assert!(owned.may_start(Partition(1), held[1].epoch, late));
    sole.release_all().await.unwrap();
    assert_eq!(store.owners(), [None; 2]);
}
