//! Deliveries that are started again.

use hookline_core::delivery::{Cause, OwedAttempt};
use hookline_core::timestamp::Timestamp;

use super::BacklogClass;

/// What came of starting a delivery again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// This attempt is due now.
    Owed(OwedAttempt),
    /// There is no such delivery, or it is another organization's.
    Unknown,
    /// An attempt of it is owed anyway.
    Pending,
    /// Its subscription is inactive, so nothing would be sent.
    Inactive,
    /// Its subscription was deleted.
    Deleted,
}

/// How deliveries of one subscription are started again: the next generation of each, whose
/// attempts go on counting while the schedule begins anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Restart {
    pub(crate) cause: Cause,
    /// The subscription's activation now.
    pub(crate) activation: i64,
    /// The states that are left for it. Of [`Restart::VOID`] are also deliveries that are pending
    /// since before their subscription was switched off: they would be skipped in their turn.
    pub(crate) from: &'static [&'static str],
    pub(crate) now: Timestamp,
}

impl Restart {
    /// The state of what its subscription does not get any more.
    pub(crate) const VOID: &'static str = "skipped";

    /// Whether pending deliveries of an earlier activation are meant, too.
    pub(crate) fn takes_void(&self) -> bool {
        self.from.contains(&Self::VOID)
    }

    /// The class in the backlog that a started delivery gets: nothing waits behind a replay.
    pub(crate) fn backlog(&self) -> Option<i16> {
        (self.cause == Cause::Replay).then(|| BacklogClass::Replay.number())
    }
}
