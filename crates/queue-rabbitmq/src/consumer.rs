//! Consuming `hookline.events`.

pub(crate) mod ack_tracker;
pub(crate) mod batch_consumer;
pub(crate) mod consumer_channel;
pub(crate) mod rabbit_consumer;
