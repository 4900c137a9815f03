//! Partitions and their owners. [`keep`] holds a share of the partitions beside other dispatchers, [`take_all`] holds
//! all of them in a folder. Both publish in [`Owned`] the partitions that this process acts for.
//!
//! No request starts without [`Owned::may_start`]. The rules are in [`membership`]; it alone decides.

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
pub(crate) use self::owned::{Held, Owned};
pub(crate) use self::progress::{Part, Progress};
pub(crate) use self::sole::take_all;

/// The time between two beats of a dispatcher.
const BEAT_EVERY: Duration = Duration::from_millis(500);

/// The longest wait for an answer of the store.
const PATIENCE: Duration = Duration::from_secs(1);

/// The wait before a hand-over. By then the requests that were about to be sent have passed to a connection.
const BEFORE_HAND_OVER: Duration = Duration::from_millis(250);
