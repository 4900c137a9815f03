//! Whose turn it is among published events.
//!
//! All organizations publish to one queue, and a queue keeps its order: who pours into it without
//! end is before everybody else. So intake counts, and what is beyond its organization's rate goes
//! back with the moment at which its turn will be. It is counted this once: when it comes again it
//! has its turn, however much has been published since. Events of others pass meanwhile.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hookline_core::ids::OrganizationId;
use hookline_core::rate::{Rate, Rates};

/// What organizations have published lately.
#[derive(Debug)]
pub(crate) struct Turns(Option<Rates<OrganizationId>>);

impl Turns {
    /// Nothing yet; without a rate it is everybody's turn.
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self(rate.map(Rates::new))
    }

    /// Counts the events of a message, each for its organization, and says how long they are to
    /// wait: all as long as the last of them, for a message is taken in as one.
    pub(crate) fn wait_of<'a>(
        &mut self,
        owners: impl Iterator<Item = &'a OrganizationId>,
        now: Instant,
    ) -> Duration {
        let Some(rates) = &mut self.0 else {
            return Duration::ZERO;
        };
        let mut counts: HashMap<&OrganizationId, u32> = HashMap::new();
        for owner in owners {
            *counts.entry(owner).or_default() += 1;
        }
        let waits = counts
            .into_iter()
            .map(|(owner, count)| rates.queue(owner.clone(), count, now));
        waits.max().unwrap_or_default()
    }

    /// Whether there is a limit at all.
    pub(crate) fn are_taken(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn organization(name: &str) -> OrganizationId {
        OrganizationId::parse(name).unwrap()
    }

    fn turns() -> Turns {
        Turns::new(Some(Rate::new(10, SECOND).with_burst(20)))
    }

    #[test]
    fn who_publishes_fifty_times_too_much_waits_and_others_do_not() {
        let (greedy, modest) = (organization("greedy"), organization("modest"));
        let mut turns = turns();
        let start = Instant::now();
        let mut moments = Vec::new();
        for millisecond in 0..8_000_u32 {
            let now = start + millisecond * SECOND / 1_000;
            if millisecond % 2 == 0 {
                moments.push(now + turns.wait_of([&greedy].into_iter(), now));
            }
            if millisecond % 100 == 0 {
                assert_eq!(turns.wait_of([&modest].into_iter(), now), Duration::ZERO);
            }
        }
        // Nothing is lost, and from the burst on they come at the rate.
        let last = *moments.last().unwrap() - start;
        assert_eq!(moments.len(), 4_000);
        assert!((397 * SECOND..=399 * SECOND).contains(&last), "{last:?}");
        let in_a_second = |from: u32| {
            let from = start + from * SECOND;
            let within = moments
                .iter()
                .filter(|at| (from..from + SECOND).contains(*at));
            within.count()
        };
        assert!(in_a_second(0) <= 30);
        for from in 1..390 {
            assert!((9..=11).contains(&in_a_second(from)), "{from}");
        }
    }

    #[test]
    fn a_message_with_many_events_waits_as_one_and_counts_for_each() {
        let (a, b) = (organization("a"), organization("b"));
        let mut turns = turns();
        let start = Instant::now();
        let many = |owner, count| std::iter::repeat_n(owner, count);
        assert_eq!(turns.wait_of(many(&a, 15), start), Duration::ZERO);
        assert_eq!(turns.wait_of(many(&a, 15), start), SECOND);
        let both = many(&b, 5).chain(many(&a, 1));
        assert_eq!(turns.wait_of(both, start), 11 * SECOND / 10);
        assert_eq!(turns.wait_of(many(&b, 15), start), Duration::ZERO);
        // More than a burst has its turn, too.
        let later = start + 60 * SECOND;
        assert_eq!(turns.wait_of(many(&a, 1_000), later), Duration::ZERO);
        assert!(turns.wait_of(many(&a, 1), later) > 90 * SECOND);
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let mut turns = Turns::new(None);
        let owner = organization("a");
        let now = Instant::now();
        for _ in 0..10_000 {
            assert_eq!(turns.wait_of([&owner].into_iter(), now), Duration::ZERO);
        }
        assert!(!turns.are_taken());
    }
}
