//! How many events an organization may publish. All share the queue and the database behind it, so
//! one that publishes without end would be felt by the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_core::ids::OrganizationId;
use hookline_core::rate::{Rate, SharedRates};

/// The events that came to this process lately, by organization.
#[derive(Debug, Clone)]
pub(crate) struct Published(Option<Arc<SharedRates<OrganizationId>>>);

impl Published {
    /// None yet; without a rate there is no limit.
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self(rate.map(|rate| Arc::new(SharedRates::new(rate))))
    }

    /// Counts `count` more, all of them or none.
    ///
    /// # Errors
    /// How long to wait, where they are too many.
    pub(crate) fn take(
        &self,
        organization: &OrganizationId,
        count: usize,
        now: Instant,
    ) -> Result<(), Duration> {
        let Some(rates) = &self.0 else {
            return Ok(());
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        rates.take_all(organization.clone(), count, now)
    }
}
