//! The dispatchers of one roster, as one of them sees them.

use hookline_core::partition::DispatcherId;
use hookline_store::{ClusterState, Heartbeat, PartitionOwner, RegisteredDispatcher};

use super::balance::{Balance, Counts};
use super::liveness::Liveness;

#[derive(Debug)]
pub(super) struct View {
    /// The dispatchers that should own partitions: alive, not draining, and able (where at least one is able).
    pub(super) takers: Balance,
    /// `takers` without newcomers.
    pub(super) established: Balance,
    /// The established dispatchers that may be given partitions now, and their counts. Newcomers if there are no
    /// others.
    pub(super) receivers: Counts,
    /// Whether this dispatcher should own partitions.
    pub(super) takes: bool,
    /// The partitions of living dispatchers with lower ids that should own none.
    pub(super) left_before: usize,
}

impl View {
    pub(super) fn new(
        me: Heartbeat,
        liveness: &Liveness,
        roster: &ClusterState,
        all: &[&PartitionOwner],
    ) -> Self {
        let owners = || all.iter().filter_map(|each| each.owner);
        let mut owned = Counts::new();
        for owner in owners() {
            *owned.entry(owner).or_default() += 1;
        }
        let counts = |ids: Vec<DispatcherId>| -> Counts {
            let count = |id| (id, owned.get(&id).copied().unwrap_or(0));
            ids.into_iter().map(count).collect()
        };
        let takers = takers(me, liveness, roster);
        let established = takers.iter().copied();
        let established: Vec<_> = established
            .filter(|id| *id == me.id || liveness.counts(*id))
            .collect();
        let fresh = |ids: &[DispatcherId]| -> Vec<DispatcherId> {
            let ids = ids.iter().copied();
            ids.filter(|id| *id != me.id && liveness.is_fresh(*id))
                .collect()
        };
        let mut receivers = fresh(&established);
        if receivers.is_empty() {
            receivers = fresh(&takers);
        }
        let leaver =
            |id: &DispatcherId| *id < me.id && !takers.contains(id) && !liveness.is_dead(*id);
        Self {
            left_before: owners().filter(leaver).count(),
            takes: takers.contains(&me.id),
            takers: Balance::new(all.len(), counts(takers)),
            established: Balance::new(all.len(), counts(established)),
            receivers: counts(receivers),
        }
    }
}

fn takers(me: Heartbeat, liveness: &Liveness, roster: &ClusterState) -> Vec<DispatcherId> {
    // The row of this dispatcher may still have the values from before the beat.
    let as_told = |each: &RegisteredDispatcher| match each.id == me.id {
        true => (me.id, me.draining, me.can_deliver),
        false => (each.id, each.draining, each.can_deliver),
    };
    let standing: Vec<_> = roster
        .dispatchers
        .iter()
        .map(as_told)
        .filter(|(id, draining, _)| !draining && (*id == me.id || !liveness.is_dead(*id)))
        .collect();
    let one_is_able = standing.iter().any(|(_, _, able)| *able);
    let takers = standing.into_iter();
    takers
        .filter(|(_, _, able)| *able || !one_is_able)
        .map(|(id, _, _)| id)
        .collect()
}
