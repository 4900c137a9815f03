//! The partitions that one dispatcher owns, takes and gives up. This is a state machine over the answers to its beats,
//! without clock and without store. Each partition has a lease, kept in the table of partitions. No leader decides.
//!
//! - Each dispatcher raises its own **beat** in the store every half second. The same statement returns all beats, and
//!   all partitions with owner and **epoch**. Each change of the owner raises the epoch.
//! - An owner **acts** until 2.5 s after it sent its last beat that was answered. Another dispatcher takes a partition
//!   only after it observed the owner's silence for longer than that ([`Liveness`]). It takes it by a compare-and-set
//!   on owner and epoch. No two dispatchers therefore act for one partition.
//! - A beat that is answered after the 2.5 s is a **lapse**. A claim of another dispatcher may be in flight. The owner
//!   then claims its own partitions, which raises the epoch. The first one of both claims wins.
//! - An owner that **leaves** a partition stops to act for it at once. It never acts in that epoch again, even if the
//!   store's answer to the hand-over is unknown. It repeats the hand-over until the roster shows another epoch.
//! - All dispatchers compute the same **quotas** from the same roster ([`super::balance`]). A dispatcher takes
//!   partitions without a living owner up to its quota. Beyond the quota, it hands over a quarter of the surplus each
//!   second, to dispatchers below their quota.
//! - A **newcomer** takes free partitions, and counts for the surplus of others after ten seconds. A dispatcher that
//!   drains owns nothing. A dispatcher that is not able to deliver, while another one is, owns nothing either.
//!
//! The monotonic clock must not stop while the clocks of other machines run on. A machine that was suspended acts for
//! lost partitions until its next beat is answered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_store::{ClusterState, Heartbeat, PartitionClaim, PartitionOwner};

use super::balance::spread;
use super::liveness::{Liveness, Read};
use super::view::View;

#[cfg(test)]
mod tests;

/// The time for which an owner acts after it sent a beat that was answered.
pub(super) const VALID: Duration = Duration::from_millis(2_500);

/// The time between two hand-overs of surplus: with every second beat.
const BETWEEN_MOVES: Duration = Duration::from_millis(750);

/// A hand-over moves a quarter of the surplus, and at least four partitions. The cluster thus settles within 25 s.
const PART_OF_SURPLUS: usize = 4;
const FEW: usize = 4;

/// A beat that was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) roster: &'a ClusterState,
    pub(super) partitions: Partitions,
    pub(super) read: Read,
}

/// A partition that this dispatcher has ceased to act for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leave {
    pub(super) partition: Partition,
    pub(super) epoch: i64,
    pub(super) to: Option<DispatcherId>,
}

/// The calls that follow from a beat.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// The dispatcher acts for no partition before the store has answered the claims.
    pub(super) lapsed: bool,
    pub(super) claims: Vec<PartitionClaim>,
    pub(super) leaves: Vec<Leave>,
}

/// A hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leaving {
    epoch: i64,
    /// The time of the store's answer or failure; none before.
    tried: Option<Instant>,
}

/// One life of a dispatcher.
#[derive(Debug)]
pub(super) struct Membership {
    id: DispatcherId,
    liveness: Liveness,
    valid_until: Option<Instant>,
    held: BTreeMap<Partition, PartitionOwner>,
    /// Its own partitions since a lapse, with the epoch. They are not held before they are claimed.
    unconfirmed: BTreeMap<Partition, i64>,
    leaving: BTreeMap<Partition, Leaving>,
    moved: Option<Instant>,
    stands_by: bool,
}

impl Membership {
    pub(super) fn new(id: DispatcherId) -> Self {
        Self {
            id,
            liveness: Liveness::default(),
            valid_until: None,
            held: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            leaving: BTreeMap::new(),
            moved: None,
            stands_by: false,
        }
    }

    pub(super) fn id(&self) -> DispatcherId {
        self.id
    }

    /// The partitions that this dispatcher acts for before [`Membership::valid_until`].
    pub(super) fn held(&self) -> &BTreeMap<Partition, PartitionOwner> {
        &self.held
    }

    pub(super) fn valid_until(&self) -> Option<Instant> {
        self.valid_until
    }

    /// Whether this dispatcher owns nothing, not even partitions that it is about to hand over.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.unconfirmed.is_empty() && self.leaving.is_empty()
    }

    /// Whether this dispatcher owns nothing because there are more dispatchers than partitions.
    pub(super) fn stands_by(&self) -> bool {
        self.stands_by && self.is_empty()
    }

    /// Notes a beat that failed, or was answered too late.
    pub(super) fn missed(&mut self) {
        self.liveness.miss();
    }

    /// Notes the store's answer to [`Steps::claims`].
    pub(super) fn took(&mut self, taken: Vec<PartitionOwner>) {
        for holding in taken {
            self.unconfirmed.remove(&holding.partition);
            self.held.insert(holding.partition, holding);
        }
    }

    /// Notes an answer or a failure of [`Steps::leaves`]. The next beats show the result.
    pub(super) fn tried(&mut self, left: &[Leave], now: Instant) {
        for leave in left {
            if let Some(leaving) = self.leaving.get_mut(&leave.partition)
                && leaving.epoch == leave.epoch
            {
                leaving.tried = Some(now);
            }
        }
    }

    /// Notes an answered beat, which reported this dispatcher as in `me`.
    pub(super) fn answered(&mut self, me: Heartbeat, answered: Answered<'_>) -> Steps {
        let Answered {
            roster,
            partitions,
            read,
        } = answered;
        let lapsed = self.valid_until.is_none_or(|until| read.answered >= until);
        self.valid_until = Some(read.sent + VALID);
        self.liveness.observe(roster, read);
        let all: Vec<_> = roster
            .partitions
            .iter()
            .filter(|each| each.partition.0 < partitions.count())
            .collect();
        self.adopt(&all, lapsed);
        let view = View::new(me, &self.liveness, roster, &all);
        self.stands_by = view.takers.has_none_for(self.id);
        let leaves = self.leaves(me, &view, read);
        let claims = self.claims(&view, &all);
        Steps {
            lapsed,
            claims,
            leaves,
        }
    }

    /// Adopts the partitions that this dispatcher owns by the roster.
    fn adopt(&mut self, all: &[&PartitionOwner], lapsed: bool) {
        let own = all.iter().filter(|each| each.owner == Some(self.id));
        let own: BTreeMap<_, _> = own.map(|each| (each.partition, *each)).collect();
        let epoch = |partition: &Partition| own.get(partition).map(|holding| holding.epoch);
        self.leaving
            .retain(|partition, leaving| epoch(partition) == Some(leaving.epoch));
        if lapsed {
            self.unconfirmed = own.values().map(|own| (own.partition, own.epoch)).collect();
        }
        let leaving = &self.leaving;
        self.unconfirmed
            .retain(|at, known| epoch(at) == Some(*known) && !leaving.contains_key(at));
        let acting = own.into_iter().filter(|(partition, _)| {
            !self.unconfirmed.contains_key(partition) && !leaving.contains_key(partition)
        });
        self.held = acting.map(|(at, holding)| (at, holding.clone())).collect();
    }

    /// The partitions to hand over now: all, or a part of the surplus. Those that the last try has not moved come
    /// again.
    fn leaves(&mut self, me: Heartbeat, view: &View, read: Read) -> Vec<Leave> {
        let mut leaves = self.again(view, read);
        let gives_all = me.draining || !view.takes && !view.receivers.is_empty();
        if gives_all {
            let held = self.held.values().map(|own| (own.partition, own.epoch));
            let unconfirmed = self.unconfirmed.iter().map(|(at, epoch)| (*at, *epoch));
            leaves.extend(to_any(held.chain(unconfirmed).collect(), view));
        } else {
            leaves.extend(self.surplus(view, read));
        }
        for leave in &leaves {
            self.held.remove(&leave.partition);
            self.unconfirmed.remove(&leave.partition);
            let leaving = Leaving {
                epoch: leave.epoch,
                tried: None,
            };
            self.leaving.insert(leave.partition, leaving);
        }
        leaves
    }

    fn again(&self, view: &View, read: Read) -> Vec<Leave> {
        let tried = |leaving: &Leaving| leaving.tried.is_some_and(|tried| tried <= read.sent);
        let again = self.leaving.iter().filter(|(_, leaving)| tried(leaving));
        to_any(
            again.map(|(at, leaving)| (*at, leaving.epoch)).collect(),
            view,
        )
    }

    fn surplus(&mut self, view: &View, read: Read) -> Vec<Leave> {
        let pause = |moved| read.sent.saturating_duration_since(moved) < BETWEEN_MOVES;
        if !self.leaving.is_empty() || self.moved.is_some_and(pause) {
            return Vec::new();
        }
        let successors = view.established.successors(self.id);
        let now = successors.len().div_ceil(PART_OF_SURPLUS).max(FEW);
        let fresh = |id: &DispatcherId| self.liveness.is_fresh(*id);
        let successors = successors.into_iter().take(now).filter(fresh);
        let leaves: Vec<_> = self
            .held
            .values()
            .rev()
            .zip(successors)
            .map(|(own, to)| Leave {
                partition: own.partition,
                epoch: own.epoch,
                to: Some(to),
            })
            .collect();
        if !leaves.is_empty() {
            self.moved = Some(read.sent);
        }
        leaves
    }

    /// Claims its own partitions after a lapse, and its share of those without a living owner.
    fn claims(&self, view: &View, all: &[&PartitionOwner]) -> Vec<PartitionClaim> {
        let ownerless = |holding: &&&PartitionOwner| match holding.owner {
            Some(owner) => owner != self.id && self.liveness.is_dead(owner),
            None => true,
        };
        let takers = view.takers.missing().into_iter();
        let shares = all.iter().filter(ownerless).zip(takers);
        let share = shares.filter_map(|(holding, taker)| (taker == self.id).then_some(*holding));
        let own = all
            .iter()
            .copied()
            .filter(|each| self.unconfirmed.contains_key(&each.partition));
        own.chain(share)
            .map(|holding| PartitionClaim {
                partition: holding.partition,
                owner: holding.owner,
                epoch: holding.epoch,
            })
            .collect()
    }
}

/// Spreads partitions over the receivers, after those of dispatchers with lower ids that leave all. Without a receiver
/// they become free.
fn to_any(partitions: Vec<(Partition, i64)>, view: &View) -> Vec<Leave> {
    let all = spread(view.left_before + partitions.len(), view.receivers.clone());
    let mut to = all.into_iter().skip(view.left_before);
    let leave = |(partition, epoch)| Leave {
        partition,
        epoch,
        to: to.next(),
    };
    partitions.into_iter().map(leave).collect()
}
