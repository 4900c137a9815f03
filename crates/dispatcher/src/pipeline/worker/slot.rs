//! The right to make a request, and the news that it is over.

use tokio::sync::mpsc;

use crate::scheduler::{Finish, Permit};

/// A request is over; or there was none.
pub(super) struct ReleasedSlot {
    pub(super) ticket: Permit,
    pub(super) finish: Option<Finish>,
}

/// A slot, which is given back when this is dropped.
pub(super) struct Slot {
    pub(super) over: mpsc::UnboundedSender<ReleasedSlot>,
    pub(super) ticket: Permit,
    /// Nothing yet, or how it went.
    pub(super) finish: Option<Finish>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Self { ticket, finish, .. } = *self;
        // Nobody listens any more when the process stops.
        let _ = self.over.send(ReleasedSlot { ticket, finish });
    }
}

/// Where requests say that they are over.
pub(crate) struct ReleasedSlots(pub(super) mpsc::UnboundedReceiver<ReleasedSlot>);
