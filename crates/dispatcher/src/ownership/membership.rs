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
use super::liveness::{Liveness, RosterRead};
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
pub(super) struct AnsweredBeat<'a> {
    pub(super) roster: &'a ClusterState,
    pub(super) partitions: Partitions,
    pub(super) read: RosterRead,
}

/// A partition that this dispatcher has ceased to act for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Release {
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
    pub(super) releases: Vec<Release>,
}

/// A hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PendingRelease {
    epoch: i64,
    /// The time of the store's answer or failure; none before.
    ended_at: Option<Instant>,
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
    releasing: BTreeMap<Partition, PendingRelease>,
    last_move: Option<Instant>,
    is_standby: bool,
}

impl Membership {
    pub(super) fn new(id: DispatcherId) -> Self {
        Self {
            id,
            liveness: Liveness::default(),
            valid_until: None,
            held: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            releasing: BTreeMap::new(),
            last_move: None,
            is_standby: false,
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
        self.held.is_empty() && self.unconfirmed.is_empty() && self.releasing.is_empty()
    }

    /// Whether this dispatcher owns nothing because there are more dispatchers than partitions.
    pub(super) fn is_standby(&self) -> bool {
        self.is_standby && self.is_empty()
    }

    /// Notes a beat that failed, or was answered too late.
    pub(super) fn missed(&mut self) {
        self.liveness.miss();
    }

    /// Notes the store's answer to [`Steps::claims`].
    pub(super) fn claimed(&mut self, taken: Vec<PartitionOwner>) {
        for holding in taken {
            self.unconfirmed.remove(&holding.partition);
            self.held.insert(holding.partition, holding);
        }
    }

    /// Notes an answer or a failure of [`Steps::releases`]. The next beats show the result.
    pub(super) fn hand_over_ended(&mut self, left: &[Release], now: Instant) {
        for release in left {
            if let Some(releasing) = self.releasing.get_mut(&release.partition)
                && releasing.epoch == release.epoch
            {
                releasing.ended_at = Some(now);
            }
        }
    }

    /// Notes an answered beat, which reported this dispatcher as in `me`.
    pub(super) fn answered(&mut self, me: Heartbeat, answered: AnsweredBeat<'_>) -> Steps {
        let AnsweredBeat {
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
        self.is_standby = view.eligible.has_none_for(self.id);
        let releases = self.releases(me, &view, read);
        let claims = self.claims(&view, &all);
        Steps {
            lapsed,
            claims,
            releases,
        }
    }

    /// Adopts the partitions that this dispatcher owns by the roster.
    fn adopt(&mut self, all: &[&PartitionOwner], lapsed: bool) {
        let own = all.iter().filter(|each| each.owner == Some(self.id));
        let own: BTreeMap<_, _> = own.map(|each| (each.partition, *each)).collect();
        let epoch = |partition: &Partition| own.get(partition).map(|holding| holding.epoch);
        self.releasing
            .retain(|partition, releasing| epoch(partition) == Some(releasing.epoch));
        if lapsed {
            self.unconfirmed = own.values().map(|own| (own.partition, own.epoch)).collect();
        }
        let releasing = &self.releasing;
        self.unconfirmed
            .retain(|at, known| epoch(at) == Some(*known) && !releasing.contains_key(at));
        let acting = own.into_iter().filter(|(partition, _)| {
            !self.unconfirmed.contains_key(partition) && !releasing.contains_key(partition)
        });
        self.held = acting.map(|(at, holding)| (at, holding.clone())).collect();
    }

    /// The partitions to hand over now: all, or a part of the surplus. Those that the last try has not moved come
    /// again.
    fn releases(&mut self, me: Heartbeat, view: &View, read: RosterRead) -> Vec<Release> {
        let mut releases = self.repeated(view, read);
        let gives_all = me.draining || !view.is_eligible && !view.successors_now.is_empty();
        if gives_all {
            let held = self.held.values().map(|own| (own.partition, own.epoch));
            let unconfirmed = self.unconfirmed.iter().map(|(at, epoch)| (*at, *epoch));
            releases.extend(assign(held.chain(unconfirmed).collect(), view));
        } else {
            releases.extend(self.surplus(view, read));
        }
        for release in &releases {
            self.held.remove(&release.partition);
            self.unconfirmed.remove(&release.partition);
            let releasing = PendingRelease {
                epoch: release.epoch,
                ended_at: None,
            };
            self.releasing.insert(release.partition, releasing);
        }
        releases
    }

    fn repeated(&self, view: &View, read: RosterRead) -> Vec<Release> {
        let has_ended = |one: &PendingRelease| one.ended_at.is_some_and(|at| at <= read.sent);
        let repeated = self.releasing.iter().filter(|(_, one)| has_ended(one));
        assign(repeated.map(|(at, one)| (*at, one.epoch)).collect(), view)
    }

    fn surplus(&mut self, view: &View, read: RosterRead) -> Vec<Release> {
        let pause = |last_move| read.sent.saturating_duration_since(last_move) < BETWEEN_MOVES;
        if !self.releasing.is_empty() || self.last_move.is_some_and(pause) {
            return Vec::new();
        }
        let successors = view.established.successors(self.id);
        let now = successors.len().div_ceil(PART_OF_SURPLUS).max(FEW);
        let fresh = |id: &DispatcherId| self.liveness.is_fresh(*id);
        let successors = successors.into_iter().take(now).filter(fresh);
        let releases: Vec<_> = self
            .held
            .values()
            .rev()
            .zip(successors)
            .map(|(own, to)| Release {
                partition: own.partition,
                epoch: own.epoch,
                to: Some(to),
            })
            .collect();
        if !releases.is_empty() {
            self.last_move = Some(read.sent);
        }
        releases
    }

    /// Claims its own partitions after a lapse, and its share of those without a living owner.
    fn claims(&self, view: &View, all: &[&PartitionOwner]) -> Vec<PartitionClaim> {
        let ownerless = |holding: &&&PartitionOwner| match holding.owner {
            Some(owner) => owner != self.id && self.liveness.is_dead(owner),
            None => true,
        };
        let eligible = view.eligible.missing().into_iter();
        let shares = all.iter().filter(ownerless).zip(eligible);
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
fn assign(partitions: Vec<(Partition, i64)>, view: &View) -> Vec<Release> {
    let all = spread(
        view.released_before + partitions.len(),
        view.successors_now.clone(),
    );
    let mut to = all.into_iter().skip(view.released_before);
    let release = |(partition, epoch)| Release {
        partition,
        epoch,
        to: to.next(),
    };
    partitions.into_iter().map(release).collect()
}
