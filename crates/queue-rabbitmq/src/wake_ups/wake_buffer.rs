//! Wake-ups that have arrived and wait to be read. Above the capacity the newest are dropped.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hookline_core::delivery::AttemptTask;
use tokio::sync::Notify;

/// Deliveries.
const CAPACITY: usize = 65_536;

/// Deliveries that one call returns.
const MAX_BATCH: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct WakeBuffer {
    waiting: Mutex<VecDeque<AttemptTask>>,
    arrived: Notify,
}

impl WakeBuffer {
    /// Returns how many deliveries were dropped.
    pub(crate) fn push(&self, deliveries: Vec<AttemptTask>) -> usize {
        let mut waiting = self.waiting();
        let room = CAPACITY.saturating_sub(waiting.len());
        let dropped = deliveries.len().saturating_sub(room);
        waiting.extend(deliveries.into_iter().take(room));
        drop(waiting);
        self.arrived.notify_one();
        dropped
    }

    /// Waits for deliveries. Cancel-safe: dropping the future loses none.
    pub(crate) async fn next(&self) -> Vec<AttemptTask> {
        loop {
            {
                let mut waiting = self.waiting();
                if !waiting.is_empty() {
                    let count = MAX_BATCH.min(waiting.len());
                    return waiting.drain(..count).collect();
                }
            }
            self.arrived.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<AttemptTask>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use hookline_core::ids::{DeliveryId, SubscriptionId};
    use uuid::Uuid;

    use super::*;

    fn deliveries(count: u32) -> Vec<AttemptTask> {
        let task = |attempt| AttemptTask {
            delivery: DeliveryId(Uuid::nil()),
            generation: 0,
            attempt,
            subscription: SubscriptionId(1),
        };
        (1..=count).map(task).collect()
    }

    #[tokio::test]
    async fn deliveries_are_read_in_the_order_of_arrival_and_in_batches() {
        let buffer = WakeBuffer::default();
        assert_eq!(buffer.next().now_or_never(), None);
        assert_eq!(buffer.push(deliveries(1_500)), 0);
        let mut read = buffer.next().await;
        assert_eq!(read.len(), MAX_BATCH);
        read.extend(buffer.next().await);
        assert_eq!(read, deliveries(1_500));
    }

    #[test]
    fn the_newest_are_dropped_above_the_capacity() {
        let buffer = WakeBuffer::default();
        assert_eq!(buffer.push(deliveries(65_535)), 0);
        assert_eq!(buffer.push(deliveries(256)), 255);
        assert_eq!(buffer.push(deliveries(256)), 256);
        let last = buffer.waiting().back().map(|task| task.attempt);
        assert_eq!(last, Some(1));
    }
}
