//! Looks: queries for due rows of the owned partitions.
//!
//! Every second a look reads the rows that have been due for more than a second. By then a wake-up has had its chance.
//! A partition that was just taken is read at once, up to the present moment. The look repeats every fifth of a second
//! for a while. The reason is that a wake-up may have gone to the earlier owner. From each partition a look reads the
//! rows that are known here and some more. If it finds all of these, there are more rows than fit. The next look at
//! that partition then starts as soon as half of the room is free. The search begins at a floor. Entries of rows that
//! are not due any more stay in the index while an old transaction is open. Without the floor, a look would read all of
//! them each second. A full look without the floor finds rows that a slow transaction has committed below it.
//!
//! After a change of the number of partitions, some rows stand in a partition that is not their subscription's. Two
//! owners would act for such a row: this one finds it, and wake-ups go to the other one. A look therefore starts none
//! of them. It moves the rows that are not in hand here, and a look of the other owner finds them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hookline_core::ids::DeliveryId;
use hookline_core::partition::Partition;
use hookline_core::timestamp::Timestamp;
use hookline_store::{DueAttempt, DueQuery, PartitionRange, Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::listing::BacklogListing;
use super::rows::DueRows;
use crate::context::ticks_every;
use crate::ownership::{OwnedPartition, Watchdog, WatchedPart};

/// A look adds no more rows than fit below this number. The worker then takes them before they are out of date.
const MAX_LOOKED_UP: usize = 2_048;

/// The time between two looks, and the most by which a lost wake-up delays its delivery.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The time for which a row was due before a look finds it.
const DUE_FOR: Duration = Duration::from_secs(1);

/// The time between two looks at a partition that was just taken.
const NEW_LOOK_EVERY: Duration = Duration::from_millis(200);

/// The time for which these looks go on. The broker takes a moment to send wake-ups to the new owner.
const NEW_LOOKS_FOR: Duration = Duration::from_millis(1_500);

/// The time between two looks at a partition with more due rows than room.
const EAGER_LOOK_EVERY: Duration = Duration::from_millis(20);

/// The time between two full looks at a partition.
const FULL_LOOK_EVERY: Duration = Duration::from_secs(30);

/// The distance from the lowest due row down to the floor of a look.
const FLOOR_DISTANCE: Duration = Duration::from_secs(60);

/// The least number of rows of a partition that a look reads besides the known ones.
const MIN_NEW_ROWS: usize = 8;

/// The number of the newest rows that a look reads in a partition with too many due rows. A million old rows of
/// receivers that are down do not hide a fresh row with a lost wake-up.
const NEWEST: u32 = 8;

/// The result of earlier looks at a partition.
#[derive(Debug, Clone, Copy)]
struct LookState {
    epoch: i64,
    first_at: Instant,
    floor: Timestamp,
    full_at: Instant,
    /// The last look did not find all due rows.
    has_more: bool,
}

/// Looks until `shutdown`. The next look repeats a failed one.
pub(super) async fn keep_looking(
    rows: DueRows,
    store: Store,
    watchdog: Watchdog,
    shutdown: CancellationToken,
) {
    let mut looks: HashMap<Partition, LookState> = HashMap::new();
    let mut every = ticks_every(LOOK_EVERY);
    let mut owned = rows.shared.owned.clone();
    let mut listing = BacklogListing::new(rows.clone(), store.clone());
    while !shutdown.is_cancelled() {
        let is_eager = looks.values().any(|state| state.has_more);
        let has_new = looks.values().any(|state| state.is_new(Instant::now()));
        let all = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = every.tick() => true,
            () = owned.changed() => true,
            () = tokio::time::sleep(NEW_LOOK_EVERY), if has_new => true,
            () = rows.has_room(), if is_eager => false,
        };
        let all_owned = owned.list();
        looks.retain(|partition, state| {
            all_owned
                .iter()
                .any(|held| (held.partition, held.epoch) == (*partition, state.epoch))
        });
        let is_new = |held: &&OwnedPartition| !looks.contains_key(&held.partition);
        let new: Vec<Partition> = all_owned
            .iter()
            .filter(is_new)
            .map(|held| held.partition)
            .collect();
        let looked = async {
            // Backlog first: the rows of a look go behind it.
            listing.list(&new, Instant::now()).await?;
            rows.look(&store, &all_owned, &mut looks, all).await
        };
        if let Err(why) = looked.await {
            tracing::warn!(error = %why, "could not look for due deliveries, trying again");
        }
        watchdog.finished(WatchedPart::Look, Instant::now());
    }
}

impl LookState {
    fn is_new(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.first_at) < NEW_LOOKS_FOR
    }
}

impl DueRows {
    /// Waits until a look that found too much can go on.
    async fn has_room(&self) {
        tokio::time::sleep(EAGER_LOOK_EVERY).await;
        while self.state().waiting.len() > MAX_LOOKED_UP / 2 {
            self.shared.taken.notified().await;
        }
    }

    /// Reads all partitions, or only those with more due rows.
    async fn look(
        &self,
        store: &Store,
        owned: &[OwnedPartition],
        looks: &mut HashMap<Partition, LookState>,
        all: bool,
    ) -> Result<(), StoreError> {
        let (now, instant) = (hookline_clock::now(), Instant::now());
        let is_new = |looks: &HashMap<_, LookState>, held: &OwnedPartition| {
            let looks = looks.get(&held.partition);
            looks.is_none_or(|looks| looks.is_new(instant))
        };
        // A partition that was just taken is read by itself, up to this moment.
        let (new, old): (Vec<&OwnedPartition>, Vec<&OwnedPartition>) =
            owned.iter().partition(|held| is_new(looks, held));
        let old = old.into_iter().filter(|held| {
            let looks = looks.get(&held.partition);
            all || looks.is_some_and(|looks| looks.has_more)
        });
        let old: Vec<&OwnedPartition> = old.collect();
        for (held, until) in [(new, now), (old, now.before(DUE_FOR))] {
            if !held.is_empty() {
                self.look_into(store, &held, looks, (until, instant))
                    .await?;
            }
        }
        Ok(())
    }

    async fn look_into(
        &self,
        store: &Store,
        owned: &[&OwnedPartition],
        looks: &mut HashMap<Partition, LookState>,
        (until, instant): (Timestamp, Instant),
    ) -> Result<(), StoreError> {
        let partitions = self.plan(owned, looks, instant);
        let limits: Vec<u32> = partitions.iter().map(|range| range.limit).collect();
        self.state().released = Some(Default::default());
        let found = store.look(DueQuery { partitions, until }).await;
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                self.state().released = None;
                return Err(why);
            }
        };
        let (own, misfiled) = self.separate(&found, hookline_clock::now());
        self.add_looked_up(&own);
        self.mark_as_read(owned);
        note(owned, looks, &limits, &found, (until, instant));
        if !misfiled.is_empty() {
            let moved = store.repartition_deliveries(misfiled).await?;
            tracing::info!(
                deliveries = moved,
                "moved deliveries to the partitions of their subscriptions"
            );
        }
        Ok(())
    }

    fn mark_as_read(&self, owned: &[&OwnedPartition]) {
        let mut state = self.state();
        for held in owned {
            state.looked_up.insert(held.partition, held.epoch);
        }
    }

    /// The rows in the partition of their subscription, and the rows to be moved there. Other rows stay: they are in
    /// hand here, or may be in hand at an earlier owner.
    fn separate(&self, found: &[DueAttempt], now: Timestamp) -> (Vec<DueAttempt>, Vec<DeliveryId>) {
        let owned = &self.shared.owned;
        let is_own = |row: &&DueAttempt| {
            let partition = owned.partition_of(row.task.subscription);
            partition.is_none_or(|partition| partition == row.partition)
        };
        let (own, misfiled): (Vec<&DueAttempt>, Vec<&DueAttempt>) = found.iter().partition(is_own);
        let state = self.state();
        let is_free = |row: &&DueAttempt| {
            let held = owned.get_owned(row.partition);
            held.is_some_and(|held| !held.blocks(row.task.subscription, now))
                && !state.entries.contains_key(&row.task.delivery)
        };
        let free = misfiled.into_iter().filter(is_free);
        let misfiled = free.map(|row| row.task.delivery).collect();
        (own.into_iter().copied().collect(), misfiled)
    }

    /// The floor and the number of rows for each partition.
    fn plan(
        &self,
        owned: &[&OwnedPartition],
        looks: &HashMap<Partition, LookState>,
        instant: Instant,
    ) -> Vec<PartitionRange> {
        let state = self.state();
        let room = MAX_LOOKED_UP.saturating_sub(state.waiting.len());
        let share = (room / owned.len()).max(MIN_NEW_ROWS);
        let into = owned.iter().map(|held| {
            let looks = looks.get(&held.partition);
            let is_full = looks.is_none_or(|looks| instant >= looks.full_at);
            let known = state.of_partition.get(&held.partition).copied();
            PartitionRange {
                partition: held.partition,
                floor: looks
                    .filter(|_| !is_full)
                    .map_or(Timestamp::from_unix_micros(0), |looks| looks.floor),
                limit: u32::try_from(known.unwrap_or_default() + share).unwrap_or(u32::MAX),
                newest: looks.filter(|looks| !looks.has_more).map_or(NEWEST, |_| 0),
            }
        });
        into.collect()
    }
}

fn note(
    owned: &[&OwnedPartition],
    looks: &mut HashMap<Partition, LookState>,
    limits: &[u32],
    found: &[DueAttempt],
    (until, instant): (Timestamp, Instant),
) {
    let mut first: HashMap<Partition, (Timestamp, u32)> = HashMap::new();
    for row in found {
        let (lowest, count) = first.entry(row.partition).or_insert((row.due, 0));
        *lowest = row.due.min(*lowest);
        *count += 1;
    }
    for (held, limit) in owned.iter().zip(limits) {
        let before = looks.get(&held.partition);
        let found = first.get(&held.partition);
        let is_full = before.is_none_or(|looks| instant >= looks.full_at);
        let lowest = found.map_or(until, |(lowest, _)| *lowest);
        let (floor, full_at) = match before.filter(|_| !is_full) {
            Some(looks) => (looks.floor, looks.full_at),
            None => (lowest.before(FLOOR_DISTANCE), instant + FULL_LOOK_EVERY),
        };
        let state = LookState {
            epoch: held.epoch,
            first_at: before.map_or(instant, |looks| looks.first_at),
            floor,
            full_at,
            has_more: found.is_some_and(|(_, count)| count >= limit),
        };
        looks.insert(held.partition, state);
    }
}

#[cfg(test)]
mod tests;
