//! Wake-ups: hints that deliveries are due, which may be lost.

pub(crate) mod buffer;
pub(crate) mod dropped;
pub(crate) mod listener;
pub(crate) mod queue;
pub(crate) mod waker;
