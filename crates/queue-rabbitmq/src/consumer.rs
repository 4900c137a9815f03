//! Consuming `hookline.events`.

pub(crate) mod ack_tracker;
pub(crate) mod batch_consumer;
pub(crate) mod channel;
pub(crate) mod event_consumer;
