//! Load balancing: how many partitions each dispatcher should own. All dispatchers compute the same result from the
//! same roster, each alone. No two therefore want the same partition or fill up the same dispatcher.

use std::collections::BTreeMap;

use hookline_core::partition::DispatcherId;

/// The number of partitions of each dispatcher.
pub(super) type OwnedCounts = BTreeMap<DispatcherId, usize>;

/// An equal share for each. The remainder goes to the dispatchers that own most, one each, so that nothing moves for
/// it.
#[derive(Debug)]
pub(super) struct Balance {
    owned: OwnedCounts,
    quotas: OwnedCounts,
}

impl Balance {
    pub(super) fn new(partitions: usize, owned: OwnedCounts) -> Self {
        let each = partitions / owned.len().max(1);
        let remainder = partitions % owned.len().max(1);
        let mut by_owned: Vec<_> = owned.iter().map(|(id, count)| (*id, *count)).collect();
        by_owned.sort_by_key(|(id, count)| (std::cmp::Reverse(*count), *id));
        let quotas = by_owned
            .iter()
            .enumerate()
            .map(|(rank, (id, _))| (*id, each + usize::from(rank < remainder)))
            .collect();
        Self { owned, quotas }
    }

    /// One entry for each partition missing to a quota. The first ones belong to the dispatcher with the fewest.
    pub(super) fn missing(&self) -> Vec<DispatcherId> {
        let mut missing: Vec<_> = self
            .owned
            .iter()
            .flat_map(|(id, owned)| (*owned..self.quotas[id]).map(move |count| (count, *id)))
            .collect();
        missing.sort_unstable();
        missing.into_iter().map(|(_, id)| id).collect()
    }

    /// The new owners of the surplus of `id`. The surplus of dispatchers with lower ids comes before it in
    /// [`Balance::missing`].
    pub(super) fn successors(&self, id: DispatcherId) -> Vec<DispatcherId> {
        let before = self
            .owned
            .range(..id)
            .map(|(id, _)| self.surplus(*id))
            .sum();
        let missing = self.missing().into_iter();
        missing.skip(before).take(self.surplus(id)).collect()
    }

    /// Whether there are more dispatchers than partitions, and this one should own none.
    pub(super) fn has_none_for(&self, id: DispatcherId) -> bool {
        self.quotas.get(&id) == Some(&0)
    }

    fn surplus(&self, id: DispatcherId) -> usize {
        let quota = self.quotas.get(&id).copied().unwrap_or(0);
        let owned = self.owned.get(&id).copied().unwrap_or(0);
        owned.saturating_sub(quota)
    }
}

/// Spreads `count` partitions over dispatchers with these counts: each goes to the dispatcher with the fewest.
pub(super) fn spread(count: usize, mut over: OwnedCounts) -> Vec<DispatcherId> {
    let fewest = |_| {
        let (id, owned) = over.iter_mut().min_by_key(|(id, owned)| (**owned, **id))?;
        *owned += 1;
        Some(*id)
    };
    (0..count).map_while(fewest).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> DispatcherId {
        DispatcherId(Uuid::from_u128(number))
    }

    fn counts(counts: &[usize]) -> OwnedCounts {
        (0..).map(id).zip(counts.iter().copied()).collect()
    }

    #[test]
    fn the_remainder_stays_with_the_dispatchers_that_own_most() {
        let balance = Balance::new(8, counts(&[2, 3, 3]));
        assert_eq!(balance.missing(), []);
        assert!((0..3).all(|each| balance.successors(id(each)).is_empty()));
    }

    #[test]
    fn missing_partitions_go_to_the_dispatcher_with_the_fewest() {
        let balance = Balance::new(9, counts(&[1, 0, 3]));
        assert_eq!(balance.missing(), [1, 0, 1, 0, 1].map(id));
    }

    #[test]
    fn two_dispatchers_with_a_surplus_choose_different_successors() {
        let balance = Balance::new(8, counts(&[4, 4, 0, 0]));
        assert_eq!(balance.successors(id(0)), [2, 3].map(id));
        assert_eq!(balance.successors(id(1)), [2, 3].map(id));
        assert_eq!(balance.missing().len(), 4);
    }

    #[test]
    fn dispatchers_beyond_the_partitions_own_none() {
        let balance = Balance::new(2, counts(&[1, 1, 0]));
        assert_eq!(balance.missing(), []);
        assert_eq!(balance.quotas, counts(&[1, 1, 0]));
        let standing_by = [0, 1, 2, 3].map(|each| balance.has_none_for(id(each)));
        assert_eq!(standing_by, [false, false, true, false]);
    }

    #[test]
    fn released_partitions_go_to_the_dispatchers_with_the_fewest() {
        assert_eq!(spread(3, counts(&[2, 0])), [1, 1, 0].map(id));
        assert_eq!(spread(3, OwnedCounts::new()), []);
    }
}
