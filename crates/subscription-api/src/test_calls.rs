//! How often an organization may send test events. A test is a request at the push of a button to
//! a target that nobody has proved to own; so many are enough to try one out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_core::ids::OrganizationId;
use hookline_core::rate::{Rate, SharedRates};

const MINUTE: Duration = Duration::from_secs(60);

/// The test calls of this process lately, by organization.
#[derive(Debug, Clone)]
pub(crate) struct TestCalls(Arc<SharedRates<OrganizationId>>);

impl TestCalls {
    /// None yet, and `limit` of them within a minute.
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
