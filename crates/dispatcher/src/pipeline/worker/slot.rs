//! The permission to make a request, and the message that the request is over.

use tokio::sync::mpsc;

use crate::scheduler::{Finish, Permit};

/// A request is over, or was not made.
pub(super) struct ReleasedSlot {
    pub(super) ticket: Permit,
    pub(super) finish: Option<Finish>,
}

/// A slot, which is given back when this is dropped.
pub(super) struct Slot {
    pub(super) over: mpsc::UnboundedSender<ReleasedSlot>,
    pub(super) ticket: Permit,
    /// None before the request has ended.
    pub(super) finish: Option<Finish>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Self { ticket, finish, .. } = *self;
        // The receiver of the channel is gone when the process stops.
        let _ = self.over.send(ReleasedSlot { ticket, finish });
    }
}

/// Receives the slots that requests give back.
pub(crate) struct ReleasedSlots(pub(super) mpsc::UnboundedReceiver<ReleasedSlot>);
