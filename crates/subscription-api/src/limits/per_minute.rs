//! The limit for calls of an organization within a minute that cost far more than their request: a test event is a
//! request to a target whose owner is not verified, and a retry by hand is an attempt that the log keeps.

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
