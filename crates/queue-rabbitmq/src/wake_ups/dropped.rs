//! Counts wake-ups that were dropped. The owner of a delivery finds its row within a second all the same.

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;

/// Why wake-ups were dropped; the metric's label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The process publishes more than the broker reads.
    QueueFull,
    /// An alarm of the broker.
    Blocked,
    Disconnected,
    /// The dispatcher reads less than arrives.
    BufferFull,
    /// The message is none of Hookline's. It counts as one delivery.
    Unreadable,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue_full",
            Reason::Blocked => "blocked",
            Reason::Disconnected => "disconnected",
            Reason::BufferFull => "buffer_full",
            Reason::Unreadable => "unreadable",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Dropped(Counter<u64>);

impl Dropped {
    pub(crate) fn new() -> Self {
        let meter = opentelemetry::global::meter("hookline-broker");
        let counter = meter
            .u64_counter("hookline.wake_ups.dropped")
            .with_description("Deliveries that no wake-up was sent or received for")
            .build();
        Self(counter)
    }

    pub(crate) fn count(&self, deliveries: usize, reason: Reason) {
        if deliveries > 0 {
            let labels = [KeyValue::new("reason", reason.as_str())];
            self.0.add(deliveries as u64, &labels);
        }
    }
}
