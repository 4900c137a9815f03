//! A message that is about to be published.

use bytes::Bytes;
use lapin::BasicProperties;

/// A message and where it goes.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) body: Bytes,
    pub(crate) properties: BasicProperties,
    pub(crate) audience: Audience,
}

/// Who a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// One of our queues: it must arrive.
    Ours,
    /// Whoever has bound a queue, which may be nobody.
    Anybody,
}
