//! The right to make a request, and the news that it is over.

use tokio::sync::mpsc;

use crate::scheduler::{Finish, Ticket};

/// A request is over; or there was none.
pub(super) struct Over {
    pub(super) ticket: Ticket,
    pub(super) finish: Option<Finish>,
}

/// A slot, which is given back when this is dropped.
pub(super) struct Slot {
    pub(super) over: mpsc::UnboundedSender<Over>,
    pub(super) ticket: Ticket,
    /// Nothing yet, or how it went.
    pub(super) finish: Option<Finish>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Self { ticket, finish, .. } = *self;
        // Nobody listens any more when the process stops.
        let _ = self.over.send(Over { ticket, finish });
    }
}

/// Where requests say that they are over.
pub(crate) struct Overs(pub(super) mpsc::UnboundedReceiver<Over>);
