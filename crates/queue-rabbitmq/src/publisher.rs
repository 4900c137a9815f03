//! Publishing what must not be lost.

pub(crate) mod confirmed_publisher;
pub(crate) mod event_publisher;
pub(crate) mod rabbit_publisher;
