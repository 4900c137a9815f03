//! Partitions and their owners. [`keep`] holds a share of the partitions beside other dispatchers, [`take_all`] holds
//! all of them in a folder. Both publish in [`OwnedPartitions`] the partitions that this process acts for.
//!
//! No request starts without [`OwnedPartitions::may_start`]. The rules are in [`membership`]; it alone decides.

mod balance;
mod keeper;
mod liveness;
mod membership;
#[cfg(test)]
mod model;
mod note;
mod owned;
mod registry;
mod sole;
#[cfg(test)]
mod tests;
mod view;
mod watchdog;

pub(crate) use self::keeper::{InFlightByPartition, KeeperParts, keep};
pub(crate) use self::owned::{OwnedPartition, OwnedPartitions};
pub(crate) use self::sole::take_all;
pub(crate) use self::watchdog::{Watchdog, WatchedPart};
