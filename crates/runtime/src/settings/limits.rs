use std::time::Duration;

use hookline_core::rate_limit::Rate;
use serde::Deserialize;

use super::allowed;

/// `[limits]`: what one organization may take of what all share.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Events that one organization may publish in a second; 0 stands for no limit.
    #[serde(deserialize_with = "allowed::number::<0, 1_000_000, _, _>")]
    pub events_per_second: u32,
    /// Events that it may publish at once when it was quiet.
    #[serde(deserialize_with = "allowed::number::<1, 10_000_000, _, _>")]
    pub events_burst: u32,
    /// How much of one organization's events is kept; 0 stands for no limit.
    #[serde(deserialize_with = "allowed::number::<0, 1_000_000_000, _, _>")]
    pub stored_mib: u64,
}

impl LimitSettings {
    /// How often one organization may publish an event.
    pub fn event_rate(&self) -> Option<Rate> {
        let count = self.events_per_second;
        (count > 0).then(|| Rate::new(count, Duration::from_secs(1)).with_burst(self.events_burst))
    }

    /// How many bytes of one organization's events are kept.
    pub fn stored_bytes(&self) -> Option<u64> {
        (self.stored_mib > 0).then_some(self.stored_mib * 1024 * 1024)
    }
}
