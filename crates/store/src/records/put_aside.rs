//! Deliveries that were put aside.

use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

/// A delivery that no process could handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutAside {
    /// Which one.
    pub delivery: DeliveryId,
    /// As told by the process that put it aside; 4,096 bytes at most.
    pub reason: String,
    /// When it ended.
    pub since: Timestamp,
}
