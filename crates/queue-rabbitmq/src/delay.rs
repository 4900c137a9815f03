//! A delay becomes a route.
//!
//! Level n of the cascade holds a message for 2^n seconds. The routing key is the delay's bits,
//! highest first, and then the address; a message rests at the levels of its ones and passes the
//! others. Each rest is a dead-lettering, so of delays above a minute only the four highest bits
//! count: at most four rests. Whoever takes the message then finds it early by less than an
//! eighth, and delays it by what is left.

use std::borrow::Cow;
use std::time::Duration;

use hookline_core::partition::Partition;

/// The levels are 0 to this one.
pub(crate) const TOP_LEVEL: u32 = 16;

/// Where a message goes when its delay is over; the last word of its routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    /// Back to the published events.
    Events,
    /// To the dispatcher that owns the partition.
    Owner(Partition),
}

impl Address {
    fn word(self) -> Cow<'static, str> {
        match self {
            Address::Events => "events".into(),
            Address::Owner(Partition(number)) => number.to_string().into(),
        }
    }

    /// The routing key of a message without a delay.
    pub(crate) fn at_once(self) -> String {
        self.word().into_owned()
    }

    /// The topic pattern of messages whose delay is over.
    pub(crate) fn pattern(self) -> String {
        format!("#.{}", self.word())
    }
}

const EXACT_UP_TO: u64 = 60;
const SIGNIFICANT_BITS: u32 = 4;

/// Four ones and zeros below: 34 hours.
const LONGEST: u64 = 0b1111 << (TOP_LEVEL + 1 - SIGNIFICANT_BITS);

/// A delay that the cascade can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Delay {
    seconds: u32,
}

impl Delay {
    /// The delay towards `wanted`: up to a minute never shorter, above it never longer.
    pub(crate) fn towards(wanted: Duration) -> Self {
        let seconds = whole_seconds(wanted);
        Self::of(seconds - seconds % step(seconds))
    }

    fn of(seconds: u64) -> Self {
        Self {
            seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        }
    }

    /// The level at which a message enters the cascade; none when there is nothing to wait for.
    pub(crate) fn entry_level(self) -> Option<u32> {
        self.seconds.checked_ilog2()
    }

    pub(crate) fn routing_key(self, address: Address) -> String {
        let address = address.word();
        let mut key = String::with_capacity(2 * TOP_LEVEL as usize + 2 + address.len());
        for level in (0..=TOP_LEVEL).rev() {
            key.push_str(if self.seconds >> level & 1 == 1 {
                "1."
            } else {
                "0."
            });
        }
        key.push_str(&address);
        key
    }
}

/// Rounded up, and no longer than the cascade can give.
fn whole_seconds(wanted: Duration) -> u64 {
    let begun = u64::from(wanted.subsec_nanos() > 0);
    wanted.as_secs().saturating_add(begun).min(LONGEST)
}

/// What a delay of about so many seconds is a multiple of.
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
    fn the_key_is_the_bits_highest_first_and_then_the_address() {
        let delay = Delay::towards(Duration::from_secs(5));
        assert_eq!(
            delay.routing_key(Address::Events),
            "0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.events"
        );
        assert_eq!(delay.entry_level(), Some(2));
    }

    #[test]
    fn a_partition_is_addressed_by_its_number() {
        let owner = Address::Owner(Partition(17));
        assert_eq!(owner.pattern(), "#.17");
        assert_eq!(owner.at_once(), "17");
        let key = Delay::towards(Duration::from_secs(1)).routing_key(owner);
        assert!(key.ends_with(".1.17"), "{key}");
    }

    #[test]
    fn a_pattern_looks_at_the_bit_of_its_level() {
        assert_eq!(pattern(TOP_LEVEL, '1'), "1.#");
        assert_eq!(pattern(TOP_LEVEL - 2, '0'), "*.*.0.#");
    }

    #[test]
    fn no_delay_is_no_detour() {
        assert_eq!(Delay::towards(Duration::ZERO).entry_level(), None);
    }

    #[test]
    fn a_delay_is_rounded_up_to_whole_seconds() {
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
        fn a_longer_one_is_early_by_less_than_an_eighth_and_rests_four_times_at_most(
            seconds in EXACT_UP_TO + 1..=LONGEST,
        ) {
            let given = towards(seconds);
            let early = seconds.checked_sub(u64::from(given)).unwrap();
            prop_assert!(early * 8 < seconds);
            prop_assert!(given.count_ones() <= 4);
            prop_assert!(given < 1 << (TOP_LEVEL + 1));
        }

        #[test]
        fn a_longer_wish_never_gives_a_shorter_delay(seconds in 0..2 * LONGEST) {
            prop_assert!(towards(seconds) <= towards(seconds + 1));
        }

        #[test]
        fn the_key_says_how_long_each_level_holds_it(seconds in 0..=LONGEST) {
            let delay = Delay::towards(Duration::from_secs(seconds));
            let key = delay.routing_key(Address::Events);
            let (bits, address) = key.rsplit_once('.').unwrap();
            prop_assert_eq!(address, "events");
            prop_assert_eq!(u32::from_str_radix(&bits.replace('.', ""), 2), Ok(delay.seconds));
            prop_assert_eq!(bits.split('.').count() as u32, TOP_LEVEL + 1);
        }
    }
}
