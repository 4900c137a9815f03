//! Counts dropped wake-ups. The owner of a delivery finds its row within a second all the same.

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;

/// The metric's label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// The process publishes faster than the broker reads.
    QueueFull,
    /// An alarm of the broker blocks the connection.
    Blocked,
    Disconnected,
    /// The dispatcher reads more slowly than wake-ups arrive.
    BufferFull,
    /// The message is not in Hookline's format. It counts as one delivery.
    Unreadable,
}

impl DropReason {
    fn as_str(self) -> &'static str {
        match self {
            DropReason::QueueFull => "queue_full",
            DropReason::Blocked => "blocked",
            DropReason::Disconnected => "disconnected",
            DropReason::BufferFull => "buffer_full",
            DropReason::Unreadable => "unreadable",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct DroppedWakeUps(Counter<u64>);

impl DroppedWakeUps {
    pub(crate) fn new() -> Self {
        let meter = opentelemetry::global::meter("hookline-broker");
        let counter = meter
            .u64_counter("hookline.wake_ups.dropped")
            .with_description("Deliveries that no wake-up was sent or received for")
            .build();
        Self(counter)
    }

    pub(crate) fn count(&self, deliveries: usize, reason: DropReason) {
        if deliveries > 0 {
            let labels = [KeyValue::new("reason", reason.as_str())];
            self.0.add(deliveries as u64, &labels);
        }
    }
}
