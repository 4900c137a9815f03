//! Events that are taken in.

use hookline_core::delivery::OwedAttempt;
use hookline_core::event::Event;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;

/// An event on its way in.
#[derive(Debug, Clone)]
pub struct IncomingEvent {
    /// The event.
    pub event: Event,
    /// The publisher's trace.
    pub trace: Option<TraceParent>,
}

/// What was taken in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// How many events had not been seen before.
    pub new_events: usize,
    /// The first attempts of new deliveries, which are due.
    pub owed: Vec<OwedAttempt>,
}

/// What bounds an intake besides its events.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) now: Timestamp,
    /// How many deliveries one transaction makes, unless a single event makes more.
    pub(crate) most: usize,
}
