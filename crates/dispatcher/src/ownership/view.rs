//! The dispatchers of one roster, as one of them sees them.

use hookline_core::partition::DispatcherId;
use hookline_store::{ClusterState, Heartbeat, PartitionOwner, RegisteredDispatcher};

use super::balance::{Balance, OwnedCounts};
use super::liveness::Liveness;

#[derive(Debug)]
pub(super) struct View {
    /// The dispatchers that should own partitions: alive, not draining, and able (where at least one is able).
    pub(super) eligible: Balance,
    /// `eligible` without newcomers.
    pub(super) established: Balance,
    /// The established dispatchers that may be given partitions now, and their counts. Newcomers if there are no
    /// others.
    pub(super) successors_now: OwnedCounts,
    /// Whether this dispatcher should own partitions.
    pub(super) is_eligible: bool,
    /// The partitions of living dispatchers with lower ids that should own none.
    pub(super) released_before: usize,
}

impl View {
    pub(super) fn new(
        me: Heartbeat,
        liveness: &Liveness,
        roster: &ClusterState,
        all: &[&PartitionOwner],
    ) -> Self {
        let owners = || all.iter().filter_map(|each| each.owner);
        let mut owned = OwnedCounts::new();
        for owner in owners() {
            *owned.entry(owner).or_default() += 1;
        }
        let owned_counts = |ids: Vec<DispatcherId>| -> OwnedCounts {
            let count = |id| (id, owned.get(&id).copied().unwrap_or(0));
            ids.into_iter().map(count).collect()
        };
        let eligible = eligible(me, liveness, roster);
        let established = eligible.iter().copied();
        let established: Vec<_> = established
            .filter(|id| *id == me.id || liveness.is_established(*id))
            .collect();
        let fresh = |ids: &[DispatcherId]| -> Vec<DispatcherId> {
            let ids = ids.iter().copied();
            ids.filter(|id| *id != me.id && liveness.is_fresh(*id))
                .collect()
        };
        let mut successors_now = fresh(&established);
        if successors_now.is_empty() {
            successors_now = fresh(&eligible);
        }
        let is_releasing =
            |id: &DispatcherId| *id < me.id && !eligible.contains(id) && !liveness.is_dead(*id);
        Self {
            released_before: owners().filter(is_releasing).count(),
            is_eligible: eligible.contains(&me.id),
            eligible: Balance::new(all.len(), owned_counts(eligible)),
            established: Balance::new(all.len(), owned_counts(established)),
            successors_now: owned_counts(successors_now),
        }
    }
}

fn eligible(me: Heartbeat, liveness: &Liveness, roster: &ClusterState) -> Vec<DispatcherId> {
    // The row of this dispatcher may still have the values from before the beat.
    let as_reported = |each: &RegisteredDispatcher| {
        if each.id == me.id {
            (me.id, me.draining, me.can_deliver)
        } else {
            (each.id, each.draining, each.can_deliver)
        }
    };
    let alive: Vec<_> = roster
        .dispatchers
        .iter()
        .map(as_reported)
        .filter(|(id, draining, _)| !draining && (*id == me.id || !liveness.is_dead(*id)))
        .collect();
    let one_is_able = alive.iter().any(|(_, _, able)| *able);
    let eligible = alive.into_iter();
    eligible
        .filter(|(_, _, able)| *able || !one_is_able)
        .map(|(id, _, _)| id)
        .collect()
}
