//! The permission to make a request, and the message that the request is over.

use tokio::sync::mpsc;

use crate::scheduler::{Finish, Permit};

/// A request is over, or was not made.
pub(super) struct ReleasedSlot {
    pub(super) permit: Permit,
    pub(super) finish: Option<Finish>,
}

/// A slot, which is given back when this is dropped.
pub(super) struct Slot {
    permit: Permit,
    released: mpsc::UnboundedSender<ReleasedSlot>,
    /// None before the request has ended.
    pub(super) finish: Option<Finish>,
}

impl Slot {
    pub(super) fn new(permit: Permit, released: mpsc::UnboundedSender<ReleasedSlot>) -> Self {
        Self {
            permit,
            released,
            finish: None,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Self { permit, finish, .. } = *self;
        // The receiver of the channel is gone when the process stops.
        let _ = self.released.send(ReleasedSlot { permit, finish });
    }
}
