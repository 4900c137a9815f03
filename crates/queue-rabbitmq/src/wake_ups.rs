//! Wake-ups: hints that deliveries are due, which may be lost.

pub(crate) mod dropped;
pub(crate) mod listener;
pub(crate) mod wake_buffer;
pub(crate) mod wake_publisher;
pub(crate) mod wake_queue;
