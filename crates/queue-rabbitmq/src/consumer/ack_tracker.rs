//! Which messages of a channel are settled, so that few frames ack many messages.
//!
//! The broker numbers the messages of a channel from 1 without gaps. An ack with `multiple` covers every message up to its
//! tag, so all messages below must be settled. Its tag must be one that the broker still waits for: the broker closes
//! the channel over any other.

use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(crate) struct AckTracker {
    /// Every tag up to here is settled.
    through: u64,
    /// Settled tags above a gap.
    ahead: BTreeSet<u64>,
}

/// A `basic.ack` to send, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
}

impl AckTracker {
    /// Settles these tags and returns the acks that tell the broker.
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

    /// Settles tags that are requeued, and returns those that were not settled before.
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
        let mut tracker = AckTracker::default();
        assert_eq!(tracker.ack(1..=100), [multiple(100)]);
        assert_eq!(tracker.ack(101..=200), [multiple(200)]);
    }

    #[test]
    fn tags_above_a_gap_are_acked_one_by_one() {
        let mut tracker = AckTracker::default();
        assert_eq!(
            tracker.ack([1, 2, 4, 5]),
            [multiple(2), single(4), single(5)]
        );
        assert_eq!(tracker.ack([3]), [single(3)]);
        assert_eq!(tracker.ack([7, 6]), [multiple(7)]);
    }

    #[test]
    fn a_requeued_tag_closes_a_gap_and_is_not_acked() {
        let mut tracker = AckTracker::default();
        assert_eq!(tracker.settle([1, 2]), [1, 2]);
        assert_eq!(tracker.ack([3]), [single(3)]);
        assert_eq!(tracker.settle([5]), [5]);
        assert_eq!(tracker.ack([4]), [single(4)]);
    }

    #[test]
    fn a_tag_is_never_named_twice() {
        let mut tracker = AckTracker::default();
        assert_eq!(tracker.ack([2]), [single(2)]);
        assert_eq!(tracker.ack([2]), []);
        assert!(tracker.settle([2]).is_empty());
    }

    proptest! {
        #[test]
        fn no_ack_names_an_unsettled_or_unknown_tag(
            (order, cuts) in (1..200u64)
                .prop_flat_map(|count| Just((1..=count).collect::<Vec<_>>()).prop_shuffle())
                .prop_flat_map(|order| {
                    let calls = proptest::collection::vec((1..20usize, any::<bool>()), order.len());
                    (Just(order), calls)
                }),
        ) {
            let mut waiting: BTreeSet<u64> = order.iter().copied().collect();
            let mut tracker = AckTracker::default();
            let mut rest = order.as_slice();
            for (size, requeue) in cuts {
                let (call, later) = rest.split_at(size.min(rest.len()));
                rest = later;
                if requeue {
                    for tag in tracker.settle(call.iter().copied()) {
                        prop_assert!(waiting.remove(&tag));
                    }
                    continue;
                }
                for Ack { tag, multiple } in tracker.ack(call.iter().copied()) {
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
