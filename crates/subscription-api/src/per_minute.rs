//! How often an organization may do something within a minute that costs far more than its request: a test
//! event is a request at the push of a button to a target that nobody has proved to own, and a retry by hand
//! is an attempt that is kept in the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_core::ids::OrganizationId;
use hookline_core::rate::{Rate, SharedRates};

const MINUTE: Duration = Duration::from_secs(60);

/// What this process has counted lately, by organization.
#[derive(Debug, Clone)]
pub(crate) struct PerMinute(Arc<SharedRates<OrganizationId>>);

impl PerMinute {
    /// None yet, and `limit` within a minute.
    pub(crate) fn new(limit: u32) -> Self {
        let rate = Rate::new(limit, MINUTE);
        Self(Arc::new(SharedRates::new(rate)))
    }

    /// Counts one more.
    ///
    /// # Errors
    /// How long to wait, where there were too many.
    pub(crate) fn take(&self, organization: &OrganizationId, now: Instant) -> Result<(), Duration> {
        self.0.take(organization.clone(), now)
    }
}
