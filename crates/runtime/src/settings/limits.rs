use std::time::Duration;

use hookline_core::rate::Rate;
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
}

impl LimitSettings {
    /// How often one organization may publish an event.
    pub fn event_rate(&self) -> Option<Rate> {
        let count = self.events_per_second;
        (count > 0).then(|| Rate::new(count, Duration::from_secs(1)).with_burst(self.events_burst))
    }
}
