//! The messages that wait in subscription queues.

use hookline_store::BacklogClass;

/// A due delivery, as the scheduler needs it.
pub trait Message {
    /// The number of the attempt that is due.
    fn attempt(&self) -> u32;

    /// The class of the backlog from which the message was read; none for a new one.
    fn backlog(&self) -> Option<BacklogClass>;
}
