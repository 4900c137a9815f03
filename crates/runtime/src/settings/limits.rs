use std::time::Duration;

use hookline_core::rate_limit::Rate;
use serde::Deserialize;

use super::validators;

/// Limits of one organization. 0 means no limit.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    #[serde(deserialize_with = "validators::number::<0, 1_000_000, _, _>")]
    pub events_per_second: u32,
    #[serde(deserialize_with = "validators::number::<1, 10_000_000, _, _>")]
    pub events_burst: u32,
    #[serde(deserialize_with = "validators::number::<0, 1_000_000_000, _, _>")]
    pub stored_mib: u64,
}

impl LimitSettings {
    pub fn event_rate(&self) -> Option<Rate> {
        let count = self.events_per_second;
        (count > 0).then(|| Rate::new(count, Duration::from_secs(1)).with_burst(self.events_burst))
    }

    /// The storage quota.
    pub fn stored_bytes(&self) -> Option<u64> {
        (self.stored_mib > 0).then_some(self.stored_mib * 1024 * 1024)
    }
}
