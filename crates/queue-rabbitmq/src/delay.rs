//! The route of a delayed message through a cascade.
//!
//! Level n of the cascade holds a message for 2^n seconds. The routing key is the delay's bits, highest first, and then the
//! target. A message stays at the levels of its ones and passes the others. Each stay costs a dead-lettering, so delays above
//! a minute are rounded down to their four highest bits. Such a message comes early by less than an eighth, and the consumer
//! delays it by the rest.

use std::borrow::Cow;
use std::time::Duration;

use hookline_core::partition::Partition;

/// The lowest level is 0.
pub(crate) const TOP_LEVEL: u32 = 16;

/// Where a message goes after its delay: the last word of its routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DelayTarget {
    /// The queue of events.
    Events,
    /// The dispatcher that owns the partition.
    Owner(Partition),
}

impl DelayTarget {
    fn word(self) -> Cow<'static, str> {
        match self {
            DelayTarget::Events => "events".into(),
            DelayTarget::Owner(Partition(number)) => number.to_string().into(),
        }
    }

    /// The routing key of a message without a delay.
    pub(crate) fn at_once(self) -> String {
        self.word().into_owned()
    }

    /// The topic pattern of messages after their delay.
    pub(crate) fn pattern(self) -> String {
        format!("#.{}", self.word())
    }
}

const EXACT_UP_TO: u64 = 60;
const SIGNIFICANT_BITS: u32 = 4;

/// Seconds, about 34 hours: the largest delay with four significant bits.
const LONGEST: u64 = 0b1111 << (TOP_LEVEL + 1 - SIGNIFICANT_BITS);

/// A delay that the cascade can realize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Delay {
    seconds: u32,
}

impl Delay {
    /// Up to a minute at least `wanted`, above it at most.
    pub(crate) fn towards(wanted: Duration) -> Self {
        let seconds = rounded_up(wanted);
        Self::of(seconds - seconds % step(seconds))
    }

    fn of(seconds: u64) -> Self {
        Self {
            seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        }
    }

    /// The level at which a message enters the cascade; none without a delay.
    pub(crate) fn entry_level(self) -> Option<u32> {
        self.seconds.checked_ilog2()
    }

    pub(crate) fn routing_key(self, target: DelayTarget) -> String {
        let target = target.word();
        let mut key = String::with_capacity(2 * TOP_LEVEL as usize + 2 + target.len());
        for level in (0..=TOP_LEVEL).rev() {
            key.push_str(if self.seconds >> level & 1 == 1 {
                "1."
            } else {
                "0."
            });
        }
        key.push_str(&target);
        key
    }
}

/// At most [`LONGEST`].
fn rounded_up(wanted: Duration) -> u64 {
    let started = u64::from(wanted.subsec_nanos() > 0);
    wanted.as_secs().saturating_add(started).min(LONGEST)
}

/// Delays of about this length are multiples of the step.
fn step(seconds: u64) -> u64 {
    if seconds <= EXACT_UP_TO {
        return 1;
    }
    1 << (seconds.ilog2() + 1 - SIGNIFICANT_BITS)
}

/// The topic pattern of messages that have `bit` (`0` or `1`) at `level`.
pub(crate) fn pattern(level: u32, bit: char) -> String {
    let passed = TOP_LEVEL.saturating_sub(level) as usize;
    format!("{}{bit}.#", "*.".repeat(passed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn towards(seconds: u64) -> u32 {
        Delay::towards(Duration::from_secs(seconds)).seconds
    }

    #[test]
    fn the_key_is_the_bits_highest_first_and_then_the_target() {
        let delay = Delay::towards(Duration::from_secs(5));
        assert_eq!(
            delay.routing_key(DelayTarget::Events),
            "0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.events"
        );
        assert_eq!(delay.entry_level(), Some(2));
    }

    #[test]
    fn the_target_of_a_partition_is_its_number() {
        let owner = DelayTarget::Owner(Partition(17));
        assert_eq!(owner.pattern(), "#.17");
        assert_eq!(owner.at_once(), "17");
        let key = Delay::towards(Duration::from_secs(1)).routing_key(owner);
        assert!(key.ends_with(".1.17"), "{key}");
    }

    #[test]
    fn a_pattern_matches_the_bit_of_its_level() {
        assert_eq!(pattern(TOP_LEVEL, '1'), "1.#");
        assert_eq!(pattern(TOP_LEVEL - 2, '0'), "*.*.0.#");
    }

    #[test]
    fn a_message_without_a_delay_does_not_enter_the_cascade() {
        assert_eq!(Delay::towards(Duration::ZERO).entry_level(), None);
    }

    #[test]
    fn a_delay_is_rounded_up_to_rounded_up() {
        assert_eq!(Delay::towards(Duration::from_nanos(1)).seconds, 1);
        assert_eq!(Delay::towards(Duration::from_millis(4001)).seconds, 5);
    }

    #[test]
    fn above_a_minute_the_four_highest_bits_count() {
        for (wanted, given) in [
            (60, 60),
            (61, 60),
            (63, 60),
            (64, 64),
            (900, 896),
            (86_400, 81_920),
        ] {
            assert_eq!(towards(wanted), given, "{wanted}");
        }
        assert_eq!(Delay::towards(Duration::MAX).seconds, 122_880);
    }

    proptest! {
        #[test]
        fn up_to_a_minute_a_delay_is_exact(seconds in 0..=EXACT_UP_TO) {
            prop_assert_eq!(u64::from(towards(seconds)), seconds);
        }

        #[test]
        fn above_a_minute_a_delay_is_early_by_less_than_an_eighth_and_stays_at_four_levels_at_most(
            seconds in EXACT_UP_TO + 1..=LONGEST,
        ) {
            let given = towards(seconds);
            let early = seconds.checked_sub(u64::from(given)).unwrap();
            prop_assert!(early * 8 < seconds);
            prop_assert!(given.count_ones() <= 4);
            prop_assert!(given < 1 << (TOP_LEVEL + 1));
        }

        #[test]
        fn a_longer_wanted_delay_never_gives_a_shorter_one(seconds in 0..2 * LONGEST) {
            prop_assert!(towards(seconds) <= towards(seconds + 1));
        }

        #[test]
        fn the_key_has_the_bits_of_the_delay_and_the_target(seconds in 0..=LONGEST) {
            let delay = Delay::towards(Duration::from_secs(seconds));
            let key = delay.routing_key(DelayTarget::Events);
            let (bits, target) = key.rsplit_once('.').unwrap();
            prop_assert_eq!(target, "events");
            prop_assert_eq!(u32::from_str_radix(&bits.replace('.', ""), 2), Ok(delay.seconds));
            prop_assert_eq!(bits.split('.').count() as u32, TOP_LEVEL + 1);
        }
    }
}
