//! Which messages of a channel are dealt with, so that few acks say it.
//!
//! The broker numbers the messages of a channel from 1 without gaps. An ack of `multiple` covers
//! everything up to its tag, so it is only right where all below is settled, and its tag must be
//! one that the broker still waits for: it closes the channel over any other.

use std::collections::BTreeSet;

/// What has been settled on one channel.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Everything up to here is settled.
    through: u64,
    /// Settled beyond a gap.
    ahead: BTreeSet<u64>,
}

/// A `basic.ack` to send, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
}

impl Ledger {
    /// Notes that these are dealt with and says which acks tell the broker.
    pub(crate) fn ack(&mut self, tags: impl IntoIterator<Item = u64>) -> Vec<Ack> {
        let new = self.settle(tags);
        let (covered, beyond): (Vec<u64>, Vec<u64>) =
            new.into_iter().partition(|tag| *tag <= self.through);
        let covering = covered.iter().max().map(|tag| Ack {
            tag: *tag,
            multiple: covered.len() > 1,
        });
        let single = |tag| Ack {
            tag,
            multiple: false,
        };
        covering
            .into_iter()
            .chain(beyond.into_iter().map(single))
            .collect()
    }

    /// Notes that the broker has these back, or is about to; returns those that are news.
    pub(crate) fn settle(&mut self, tags: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let new: Vec<u64> = tags
            .into_iter()
            .filter(|tag| *tag > self.through && self.ahead.insert(*tag))
            .collect();
        while self.ahead.first() == Some(&(self.through + 1)) {
            self.ahead.pop_first();
            self.through += 1;
        }
        new
    }

    pub(crate) fn has_settled_through(&self, tag: u64) -> bool {
        self.through >= tag
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn multiple(tag: u64) -> Ack {
        Ack {
            tag,
            multiple: true,
        }
    }

    fn single(tag: u64) -> Ack {
        Ack {
            tag,
            multiple: false,
        }
    }

    #[test]
    fn a_batch_in_order_is_one_ack() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.ack(1..=100), [multiple(100)]);
        assert_eq!(ledger.ack(101..=200), [multiple(200)]);
    }

    #[test]
    fn what_lies_beyond_a_gap_is_acked_one_by_one() {
        let mut ledger = Ledger::default();
        assert_eq!(
            ledger.ack([1, 2, 4, 5]),
            [multiple(2), single(4), single(5)]
        );
        assert_eq!(ledger.ack([3]), [single(3)]);
        assert_eq!(ledger.ack([7, 6]), [multiple(7)]);
    }

    #[test]
    fn what_went_back_closes_a_gap_and_is_not_acked() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.settle([1, 2]), [1, 2]);
        assert_eq!(ledger.ack([3]), [single(3)]);
        assert_eq!(ledger.settle([5]), [5]);
        assert_eq!(ledger.ack([4]), [single(4)]);
    }

    #[test]
    fn a_tag_is_never_named_twice() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.ack([2]), [single(2)]);
        assert_eq!(ledger.ack([2]), []);
        assert!(ledger.settle([2]).is_empty());
    }

    proptest! {
        #[test]
        fn the_broker_never_hears_of_an_unsettled_or_unknown_tag(
            (order, cuts) in (1..200u64)
                .prop_flat_map(|count| Just((1..=count).collect::<Vec<_>>()).prop_shuffle())
                .prop_flat_map(|order| {
                    let calls = proptest::collection::vec((1..20usize, any::<bool>()), order.len());
                    (Just(order), calls)
                }),
        ) {
            let mut waiting: BTreeSet<u64> = order.iter().copied().collect();
            let mut ledger = Ledger::default();
            let mut rest = order.as_slice();
            for (size, give_back) in cuts {
                let (call, later) = rest.split_at(size.min(rest.len()));
                rest = later;
                if give_back {
                    for tag in ledger.settle(call.iter().copied()) {
                        prop_assert!(waiting.remove(&tag));
                    }
                    continue;
                }
                for Ack { tag, multiple } in ledger.ack(call.iter().copied()) {
                    prop_assert!(waiting.remove(&tag), "{} is not waited for", tag);
                    if multiple {
                        waiting.retain(|waiting| *waiting > tag);
                    }
                }
                prop_assert!(later.iter().all(|tag| waiting.contains(tag)), "acked too much");
            }
            prop_assert!(waiting.is_empty());
        }
    }
}
