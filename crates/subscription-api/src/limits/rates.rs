//! The rate limits of API keys and of organizations.

use std::time::Duration;

use hookline_core::ids::{KeyId, OrganizationId};
use hookline_core::rate_limit::{Rate, SharedRateLimiter};

use crate::config::ApiConfig;

const MINUTE: Duration = Duration::from_secs(60);

/// One limiter for each limited thing.
#[derive(Debug)]
pub(crate) struct RateLimits {
    pub(crate) requests: SharedRateLimiter<KeyId>,
    /// Events published over HTTP, if they are limited. All organizations share the queue and the database, so one
    /// that publishes without a limit would slow down the others.
    pub(crate) events: Option<SharedRateLimiter<OrganizationId>>,
    /// A test event is a request to a target, and Hookline does not verify that the organization owns it.
    pub(crate) test_events: SharedRateLimiter<OrganizationId>,
    /// A manual retry makes an attempt, which the log keeps.
    pub(crate) retries: SharedRateLimiter<OrganizationId>,
    /// Writes of the time at which a key was last used.
    pub(crate) key_use_writes: SharedRateLimiter<KeyId>,
}

impl RateLimits {
    pub(crate) fn new(config: &ApiConfig) -> Self {
        let per_minute = |count| Rate::new(count, MINUTE);
        Self {
            requests: SharedRateLimiter::new(config.key_request_rate),
            events: config.event_rate.map(SharedRateLimiter::new),
            test_events: SharedRateLimiter::new(per_minute(config.max_tests_per_minute)),
            retries: SharedRateLimiter::new(per_minute(config.max_retries_per_minute)),
            key_use_writes: SharedRateLimiter::new(per_minute(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_use_of_a_key_is_written_once_a_minute() {
        let limits = RateLimits::new(&ApiConfig::default());
        let now = Instant::now();
        let is_due = |key, now| limits.key_use_writes.try_acquire(KeyId(key), now).is_ok();
        assert!(is_due(1, now));
        assert!(is_due(2, now));
        assert!(!is_due(1, now + MINUTE - Duration::from_secs(1)));
        assert!(is_due(1, now + MINUTE));
    }
}
