//! Fairness under load: the cost of bad receivers to the good ones.
//!
//! The load runs twice in one deployment, without the bad receivers and with them. Events come at fixed times, even if earlier
//! events have not arrived. An event's latency counts from the time at which it was to be published: a system that
//! stalls cannot make the load wait for it. Then the bad receivers recover, and every delivery that is owed to them has
//! to arrive.

mod fairness;
mod flood;
mod latency;
mod load;
mod metrics;
mod receivers;

pub use fairness::{BadReceivers, FairnessResult, FairnessRun, FairnessSetup};
pub use flood::{Flood, FloodResult, RATE, limited, retry_after_seconds};
pub use latency::{Latencies, LatencyBound};
pub use receivers::ReceiverBehaviour;
