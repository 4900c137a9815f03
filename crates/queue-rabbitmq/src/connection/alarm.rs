//! The broker's resource alarm, as a publishing connection sees it.
//!
//! Short of memory or disk, RabbitMQ stops reading from connections that publish, and tells each of them
//! (`connection.blocked`) when it publishes the next time. Connections that only consume and ack go on, so that the
//! backlog can drain: <https://www.rabbitmq.com/docs/connection-blocked>.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why the broker takes no messages; none while it does. Clones share the alarm. It outlives a connection, because only a
/// confirmed message ends it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alarm(Arc<Mutex<Option<String>>>);

impl Alarm {
    pub(crate) fn raise(&self, reason: &str) {
        let mut raised = self.raised();
        if raised.is_none() {
            tracing::warn!(
                reason,
                "the broker blocks publishing; events wait, deliveries go on"
            );
            *raised = Some(reason.to_owned());
        }
    }

    pub(crate) fn end(&self) {
        if let Some(reason) = self.raised().take() {
            tracing::info!(reason, "the broker takes messages again");
        }
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.raised().clone()
    }

    fn raised(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
