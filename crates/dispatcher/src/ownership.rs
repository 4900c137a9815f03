//! Partitions and their owners. [`keep`] holds a share of the partitions beside other dispatchers, [`take_all`] holds
//! all of them in a folder. Both say in [`Owned`] which partitions this process acts for.
//!
//! No request is started without [`Owned::may_start`]. The rules are in [`membership`]; it alone decides.

use std::time::Duration;

mod balance;
mod keeper;
mod liveness;
mod membership;
#[cfg(test)]
mod model;
mod note;
mod owned;
mod progress;
mod registry;
mod sole;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use self::keeper::{InFlight, Keeping, keep};
pub(crate) use self::note::Blocked;
pub(crate) use self::owned::Owned;
pub(crate) use self::progress::{Part, Progress};
pub(crate) use self::registry::Registry;
pub(crate) use self::sole::take_all;

/// How often a dispatcher beats.
const BEAT_EVERY: Duration = Duration::from_millis(500);

/// How long an answer of the store is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A partition is handed over when what was about to be sent has been passed to a connection.
const BEFORE_HAND_OVER: Duration = Duration::from_millis(250);
