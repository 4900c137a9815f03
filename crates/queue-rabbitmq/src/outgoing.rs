//! A message that is about to be published.

use bytes::Bytes;
use lapin::BasicProperties;

#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) body: Bytes,
    pub(crate) properties: BasicProperties,
    pub(crate) mandatory: Mandatory,
}

/// Whether a message must reach a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mandatory {
    Yes,
    /// The exchange may have no queue.
    No,
}
