//! Quarantine of poison messages: which of many messages ends the process?
//!
//! A process that dies takes all its messages along, and the queue only knows that each of them came back. To dead-letter
//! all of them would lose good messages; to handle each alone would be slow. A message that came back before is
//! therefore *in quarantine*: its crash count is raised in the store before it is handled, and removed afterwards.
//! A count that stays is a crash. The more crashes, the fewer messages are handled together, down to one.
//! Only a message that ends a process by itself reaches a high count.

/// How often a message comes back before it goes to quarantine: two processes that held it may have died of it.
/// Once is as likely an ordinary restart.
pub const SUSPECT_AFTER: u32 = 2;

/// The size of a group that is handled together, by crash count. Beyond it is 1.
const GROUP_SIZES: [usize; 2] = [256, 16];

/// A message in quarantine and its crash count.
pub type Suspect<T> = (T, u32);

/// The next step of a quarantine, in this order.
#[derive(Debug, PartialEq, Eq)]
pub struct QuarantinePlan<T> {
    /// Their crash count has reached the limit.
    pub dead_letter: Vec<T>,
    /// Handled now, together and with no other message.
    pub group: Vec<T>,
    pub rest: Vec<Suspect<T>>,
}

/// The messages with the fewest crashes come first: these are most likely harmless.
pub fn plan<T>(mut suspects: Vec<Suspect<T>>, limit: u32) -> QuarantinePlan<T> {
    suspects.sort_by_key(|(_, crashes)| *crashes);
    let end = suspects.partition_point(|(_, crashes)| *crashes < limit);
    let dead_letter = suspects.split_off(end).into_iter().map(|(one, _)| one);
    let dead_letter = dead_letter.collect();
    let Some(&(_, least)) = suspects.first() else {
        return QuarantinePlan {
            dead_letter,
            group: Vec::new(),
            rest: suspects,
        };
    };
    let size = usize::try_from(least)
        .ok()
        .and_then(|crashes| GROUP_SIZES.get(crashes).copied())
        .unwrap_or(1);
    let alike = suspects.partition_point(|(_, crashes)| *crashes == least);
    let rest = suspects.split_off(alike.min(size));
    QuarantinePlan {
        dead_letter,
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
    fn fewest_crashes_come_first_and_more_crashes_mean_smaller_groups() {
        let plan = plan(vec![('a', 2), ('b', 0), ('c', 5), ('d', 0)], 5);
        assert_eq!(plan.dead_letter, ['c']);
        assert_eq!(plan.group, ['b', 'd']);
        assert_eq!(plan.rest, [('a', 2)]);
        let sizes =
            [0, 1, 2, 3].map(|crashes| super::plan(vec![((), crashes); 1_000], 5).group.len());
        assert_eq!(sizes, [256, 16, 1, 1]);
    }

    proptest! {
        /// One process for each crash: it handles group after group until it meets a poison message.
        #[test]
        fn only_poison_messages_are_dead_lettered_within_the_limit(
            count in 1..600_usize, poison in proptest::collection::btree_set(0..600_usize, 0..4), limit in 3..20_u32,
        ) {
            let mut crashes = HashMap::new();
            let mut left: Vec<usize> = (0..count).collect();
            let poison: Vec<usize> = poison.into_iter().filter(|one| *one < count).collect();
            let mut deaths = 0;
            let mut dead_letter = Vec::new();
            'process: while !left.is_empty() {
                let mut suspects: Vec<Suspect<usize>> =
                    left.iter().map(|one| (*one, crashes.get(one).copied().unwrap_or(0))).collect();
                loop {
                    let plan = plan(suspects, limit);
                    left.retain(|one| !plan.dead_letter.contains(one));
                    dead_letter.extend(plan.dead_letter);
                    if plan.group.is_empty() {
                        break;
                    }
                    if plan.group.iter().any(|one| poison.contains(one)) {
                        for one in plan.group {
                            *crashes.entry(one).or_default() += 1;
                        }
                        deaths += 1;
                        continue 'process;
                    }
                    left.retain(|one| !plan.group.contains(one));
                    suspects = plan.rest;
                }
            }
            dead_letter.sort_unstable();
            prop_assert_eq!(&dead_letter, &poison);
            prop_assert!(deaths <= limit as usize * poison.len());
        }
    }
}
