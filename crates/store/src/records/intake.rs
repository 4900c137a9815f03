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
    /// Whether it is on its way for the first time.
    pub passage: Passage,
}

/// Whether an event is on its way for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// As far as anybody knows.
    First,
    /// Somebody had it in hand, who may have died between taking it in and handing it on.
    Again,
}

/// What was taken in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// How many events had not been seen before.
    pub new_events: usize,
    /// The first attempts to hand on: of new events, and of those that pass again.
    pub owed: Vec<OwedAttempt>,
}

/// What bounds an intake besides its events.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) now: Timestamp,
    pub(crate) lease: Option<Timestamp>,
    /// How many deliveries one transaction makes, unless a single event makes more.
    pub(crate) most: usize,
}
