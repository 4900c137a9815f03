//! A backlog as the store keeps it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;
use hookline_store::BacklogPosition;
use uuid::Uuid;

use super::*;

#[derive(Default)]
pub(super) struct StoredBacklog {
    rows: BTreeMap<SubscriptionId, BTreeSet<u32>>,
    in_hand: HashSet<(SubscriptionId, u32)>,
}

fn position(number: u32) -> BacklogPosition {
    BacklogPosition {
        due: Timestamp::from_unix_micros(i64::from(number)),
        delivery: DeliveryId(Uuid::nil()),
    }
}

impl StoredBacklog {
    /// Marks the messages that are not marked yet.
    pub(super) fn put(&mut self, excess: Vec<Numbered>) -> usize {
        let mut marked = 0;
        for (to, number) in excess {
            let number = number & !FROM_BACKLOG;
            self.in_hand.remove(&(to, number));
            marked += usize::from(self.rows.entry(to).or_default().insert(number));
        }
        marked
    }

    /// Answers all searches that are wanted now.
    pub(super) fn serve(
        &mut self,
        clocked: &mut ClockedScheduler,
        groups_of: impl Fn(SubscriptionId) -> ShareGroups,
    ) -> Vec<BacklogSearch> {
        let reads = clocked.scheduler.take_reads(clocked.now);
        for read in &reads {
            let to = read.subscription;
            let rows = self.rows.get(&to).cloned().unwrap_or_default();
            let mut result = SearchResult::default();
            let behind = |number: &u32| read.after.is_none_or(|after| position(*number) > after);
            // The rows of replays are not in this model.
            let of_class = rows
                .into_iter()
                .filter(|_| read.class == BacklogClass::Live);
            for number in of_class.filter(behind).take(read.limit) {
                result.found += 1;
                result.last = Some(position(number));
                if self.in_hand.insert((to, number)) {
                    result.new += 1;
                    let message = (to, number | FROM_BACKLOG);
                    clocked
                        .scheduler
                        .push(to, groups_of(to), message, clocked.now);
                }
            }
            self.put(clocked.scheduler.take_excess());
            clocked.scheduler.read(*read, result);
        }
        reads
    }

    /// Ends a delivery.
    pub(super) fn done(&mut self, (to, number): Numbered) {
        let number = number & !FROM_BACKLOG;
        self.in_hand.remove(&(to, number));
        if let Some(rows) = self.rows.get_mut(&to) {
            rows.remove(&number);
        }
    }

    /// The number of rows in the backlog that are not in hand.
    pub(super) fn waiting(&self) -> u32 {
        let rows: usize = self.rows.values().map(BTreeSet::len).sum();
        u32::try_from(rows - self.in_hand.len()).unwrap()
    }
}
