use bytes::Bytes;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;

/// The side that wrote a message. Hookline's own formats and headers are read from its own messages only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// A workflow service: one event in a format of the contract.
    Publisher,
    /// A process of Hookline.
    Hookline,
}

/// A message on `hookline.events`: one event, or several that become durable together or not at all.
#[derive(Debug, Clone)]
pub struct PublishedEvents {
    /// The bytes as they were published.
    pub body: Bytes,
    /// None where the publisher named no format.
    pub content_type: Option<String>,
    /// The side that chose the bytes and the format. It stays the same when the message is requeued, deferred or
    /// dead-lettered.
    pub author: Author,
    /// The publisher's trace.
    pub trace: Option<TraceParent>,
    /// When the rate limit of the organization admits the message. A message that has this time was counted and is
    /// not counted again.
    pub due: Option<Timestamp>,
}
