//! Partitions of the subscriptions. One dispatcher at a time owns a partition, and with it the concurrency limit, rate
//! limit, circuit breaker and backlog of its subscriptions.

use std::num::NonZeroU16;

use uuid::Uuid;

use crate::ids::SubscriptionId;

/// A partition, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u16);

impl Partition {
    /// No partition. A row of this number says that the number of partitions is about to change.
    pub const CHANGE: Self = Self(u16::MAX);
}

/// How many partitions the subscriptions are divided into: one number for the whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions(NonZeroU16);

impl Partitions {
    /// The number of a new PostgreSQL database. Dispatchers beyond it stand by.
    pub const DEFAULT: Self = Self(NonZeroU16::new(64).unwrap());

    /// The number of a folder, which one process delivers from.
    pub const ONE: Self = Self(NonZeroU16::MIN);

    /// The largest number: 1,024 rows are read with each beat of a dispatcher.
    pub const MOST: u16 = 1_024;

    /// None for 0 and above [`Partitions::MOST`].
    pub fn new(count: u16) -> Option<Self> {
        (count <= Self::MOST)
            .then_some(count)
            .and_then(NonZeroU16::new)
            .map(Self)
    }

    /// At least 1.
    pub fn count(self) -> u16 {
        self.0.get()
    }

    /// The partition of a subscription, as SQL computes it: ids are positive.
    pub fn of(self, subscription: SubscriptionId) -> Partition {
        let rest = subscription.0.rem_euclid(i64::from(self.count()));
        Partition(u16::try_from(rest).unwrap_or_default())
    }

    /// Each partition once.
    pub fn all(self) -> impl Iterator<Item = Partition> {
        (0..self.count()).map(Partition)
    }
}

/// One registration of a dispatcher process. A process that lost its registration takes a new id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DispatcherId(pub Uuid);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subscription_has_one_partition() {
        let partitions = Partitions::new(3).unwrap();
        let of = [0, 1, 2, 3, i64::MAX].map(|id| partitions.of(SubscriptionId(id)).0);
        assert_eq!(of, [0, 1, 2, 0, 1]);
        assert_eq!(Partitions::ONE.of(SubscriptionId(77)), Partition(0));
    }

    #[test]
    fn the_number_of_partitions_is_bounded() {
        assert_eq!(Partitions::new(0), None);
        assert_eq!(Partitions::new(Partitions::MOST + 1), None);
        assert_eq!(Partitions::DEFAULT.all().count(), 64);
    }
}
