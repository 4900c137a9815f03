//! Slices of the backlog: the events of one transaction.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use hookline_core::ids::OrganizationId;
use hookline_core::row_failures::RowFailures;
use hookline_store::IncomingEvent;

/// Deliveries of one transaction, unless a single event makes more.
pub(crate) const MAX_DELIVERIES: usize = 1_000;

/// Bytes of events of one transaction, unless a single event has more.
pub(crate) const MAX_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct WaitingEvent {
    /// The number of its message in `unacked`.
    pub(crate) message: u64,
    pub(crate) event: IncomingEvent,
    /// As far as the index of subscriptions knew.
    pub(crate) deliveries: usize,
    /// Its failures in transactions without other events.
    pub(crate) alone: RowFailures,
    pub(crate) attempts_alone: u32,
}

impl WaitingEvent {
    pub(crate) fn new(message: u64, event: IncomingEvent, deliveries: usize) -> Self {
        Self {
            message,
            event,
            deliveries,
            alone: RowFailures::default(),
            attempts_alone: 0,
        }
    }

    pub(crate) fn organization(&self) -> &OrganizationId {
        &self.event.event.organization
    }

    /// An event without deliveries counts as one.
    pub(crate) fn weight(&self) -> usize {
        self.deliveries.max(1)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.event.event.body.len()
    }

    pub(crate) fn kind(&self) -> WriteKind {
        match self.deliveries {
            0 => WriteKind::EventsOnly,
            _ => WriteKind::WithDeliveries,
        }
    }
}

/// The rows of a transaction. Rows of deliveries may fail while rows of events do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteKind {
    EventsOnly,
    WithDeliveries,
}

/// Whether the organization of a slice is broad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FanOutSize {
    Small,
    Broad,
}

/// The events of one transaction.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) events: Vec<WaitingEvent>,
    pub(crate) organizations: Vec<OrganizationId>,
    pub(crate) size: FanOutSize,
    /// Its organization failed before, so the transaction may take as long as the store's timeout.
    pub(crate) is_slow: bool,
}

/// A transaction that failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SliceFailure {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) is_transient: bool,
    /// The result of the store's write probe.
    pub(crate) can_be_written: bool,
    /// [`Slice::is_slow`].
    pub(crate) is_slow: bool,
}

/// The consequence of a failed transaction: its events wait again, except those that this names.
#[derive(Debug, Default)]
pub(crate) struct FailureConsequence {
    /// The shortest wait.
    pub(crate) wait: Duration,
    /// The event that is dead-lettered.
    pub(crate) faulty: Option<WaitingEvent>,
    pub(crate) deferred: HashSet<u64>,
    /// An organization that is to be logged as stuck.
    pub(crate) stuck: Option<OrganizationId>,
}
