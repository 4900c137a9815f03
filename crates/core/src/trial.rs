//! Which of many messages ends the process?
//!
//! A process that dies takes all messages in its hands along, and the queue only knows that each of
//! them came back. To bury them all for one of them would be wrong, to try each alone too slow. So
//! whoever came back before is *on trial*: that is noted durably before it is handled and taken
//! back afterwards, and a note that stays is a charge. The more charges, the fewer share a trial,
//! down to one; so only what ends a process all by itself is ever charged often.

/// How often a message comes back before it is handled on trial: two who had it may have died of
/// it. Below, that is as likely an ordinary restart.
pub const SUSPECT_AFTER: u32 = 2;

/// How many share a trial, by how often they were charged before.
const TOGETHER: [usize; 2] = [256, 16];

/// A suspect and how often it was charged.
pub type Charged<T> = (T, u32);

/// What to do with suspects, in this order.
#[derive(Debug, PartialEq, Eq)]
pub struct Docket<T> {
    /// Were charged as often as the limit allows: to be handled no more.
    pub given_up: Vec<T>,
    /// To be tried now, together and with nobody else.
    pub group: Vec<T>,
    /// To be tried afterwards.
    pub rest: Vec<Charged<T>>,
}

/// Chooses whom to try next: who was charged least is most likely innocent.
pub fn next<T>(mut suspects: Vec<Charged<T>>, limit: u32) -> Docket<T> {
    suspects.sort_by_key(|(_, charges)| *charges);
    let end = suspects.partition_point(|(_, charges)| *charges < limit);
    let given_up = suspects.split_off(end).into_iter().map(|(one, _)| one);
    let given_up = given_up.collect();
    let Some(&(_, least)) = suspects.first() else {
        return Docket {
            given_up,
            group: Vec::new(),
            rest: suspects,
        };
    };
    let share = usize::try_from(least)
        .ok()
        .and_then(|charges| TOGETHER.get(charges).copied())
        .unwrap_or(1);
    let alike = suspects.partition_point(|(_, charges)| *charges == least);
    let rest = suspects.split_off(alike.min(share));
    Docket {
        given_up,
        group: suspects.into_iter().map(|(one, _)| one).collect(),
        rest,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_was_charged_least_is_tried_first_and_more_charges_mean_fewer_at_once() {
        let docket = next(vec![('a', 2), ('b', 0), ('c', 5), ('d', 0)], 5);
        assert_eq!(docket.given_up, ['c']);
        assert_eq!(docket.group, ['b', 'd']);
        assert_eq!(docket.rest, [('a', 2)]);
        let sizes = [0, 1, 2, 3].map(|charges| next(vec![((), charges); 1_000], 5).group.len());
        assert_eq!(sizes, [256, 16, 1, 1]);
    }

    proptest! {
        /// A process for each charge: it goes through the docket until it meets a poison and dies.
        #[test]
        fn only_the_poison_is_given_up_and_soon(
            count in 1..600_usize, poison in proptest::collection::btree_set(0..600_usize, 0..4), limit in 3..20_u32,
        ) {
            let mut charges = HashMap::new();
            let mut left: Vec<usize> = (0..count).collect();
            let poison: Vec<usize> = poison.into_iter().filter(|one| *one < count).collect();
            let mut deaths = 0;
            let mut given_up = Vec::new();
            'process: while !left.is_empty() {
                let mut suspects: Vec<Charged<usize>> =
                    left.iter().map(|one| (*one, charges.get(one).copied().unwrap_or(0))).collect();
                loop {
                    let docket = next(suspects, limit);
                    left.retain(|one| !docket.given_up.contains(one));
                    given_up.extend(docket.given_up);
                    if docket.group.is_empty() {
                        break;
                    }
                    if docket.group.iter().any(|one| poison.contains(one)) {
                        for one in docket.group {
                            *charges.entry(one).or_default() += 1;
                        }
                        deaths += 1;
                        continue 'process;
                    }
                    left.retain(|one| !docket.group.contains(one));
                    suspects = docket.rest;
                }
            }
            given_up.sort_unstable();
            prop_assert_eq!(&given_up, &poison);
            prop_assert!(deaths <= limit as usize * poison.len());
        }
    }
}
