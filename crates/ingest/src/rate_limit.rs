//! The rate limit of published events per organization.
//!
//! All organizations publish to one queue, which keeps its order: an organization that floods it would delay all
//! others. Intake counts events, and defers a message above the rate with the time at which the limit admits it. The
//! message is counted once: when it comes again it is admitted, regardless of what was published since. Events of
//! others pass meanwhile.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hookline_core::ids::OrganizationId;
use hookline_core::rate_limit::{Rate, RateLimiter};

#[derive(Debug)]
pub(crate) struct OrganizationRateLimit(Option<RateLimiter<OrganizationId>>);

impl OrganizationRateLimit {
    /// Without a rate there is no limit.
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self(rate.map(RateLimiter::new))
    }

    /// Counts the events of a message, each for its organization. Returns the delay after which the limit admits the
    /// last event: a message is admitted as a whole.
    pub(crate) fn delay_of<'a>(
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
        let delays = counts
            .into_iter()
            .map(|(owner, count)| rates.reserve(owner.clone(), count, now));
        delays.max().unwrap_or_default()
    }

    pub(crate) fn is_limited(&self) -> bool {
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

    fn limit() -> OrganizationRateLimit {
        OrganizationRateLimit::new(Some(Rate::new(10, SECOND).with_burst(20)))
    }

    #[test]
    fn an_organization_above_its_rate_is_delayed_and_others_are_not() {
        let (greedy, modest) = (organization("greedy"), organization("modest"));
        let mut limit = limit();
        let start = Instant::now();
        let mut moments = Vec::new();
        for millisecond in 0..8_000_u32 {
            let now = start + millisecond * SECOND / 1_000;
            if millisecond % 2 == 0 {
                moments.push(now + limit.delay_of([&greedy].into_iter(), now));
            }
            if millisecond % 100 == 0 {
                assert_eq!(limit.delay_of([&modest].into_iter(), now), Duration::ZERO);
            }
        }
        // All messages are admitted: a burst at once, the rest at the rate.
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
    fn a_message_with_many_events_is_delayed_as_one_and_counts_each_event() {
        let (a, b) = (organization("a"), organization("b"));
        let mut limit = limit();
        let start = Instant::now();
        let many = |owner, count| std::iter::repeat_n(owner, count);
        assert_eq!(limit.delay_of(many(&a, 15), start), Duration::ZERO);
        assert_eq!(limit.delay_of(many(&a, 15), start), SECOND);
        let both = many(&b, 5).chain(many(&a, 1));
        assert_eq!(limit.delay_of(both, start), 11 * SECOND / 10);
        assert_eq!(limit.delay_of(many(&b, 15), start), Duration::ZERO);
        // A message of more than a burst is admitted, too.
        let later = start + 60 * SECOND;
        assert_eq!(limit.delay_of(many(&a, 1_000), later), Duration::ZERO);
        assert!(limit.delay_of(many(&a, 1), later) > 90 * SECOND);
    }

    #[test]
    fn without_a_rate_no_event_is_delayed() {
        let mut limit = OrganizationRateLimit::new(None);
        let owner = organization("a");
        let now = Instant::now();
        for _ in 0..10_000 {
            assert_eq!(limit.delay_of([&owner].into_iter(), now), Duration::ZERO);
        }
        assert!(!limit.is_limited());
    }
}
