//! Publishing what must not be lost.

pub(crate) mod confirmed;
pub(crate) mod event_publisher;
pub(crate) mod queue_publisher;
