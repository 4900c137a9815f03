//! The in-memory hand-off queue between publisher and intake.
//!
//! Messages that this process has just published are handed over in memory, which saves a transaction. The queue in the
//! store is polled for the others: deferred and requeued messages, messages above the capacity, and those of an earlier
//! process.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookline_clock::now;
use hookline_core::timestamp::Timestamp;
use hookline_queue::{Receipt, ReceivedMessage};
use hookline_store::StoreError;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The longest time between two polls: another process may have put a message into the queue.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// How long a consumer waits after an error of the store.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The result of a poll of the queue in the store.
pub(crate) enum Poll<M> {
    Found(Vec<ReceivedMessage<M>>),
    /// No message is visible; the next one will be at this time.
    Empty(Option<Timestamp>),
}

pub(crate) struct HandoffQueue<M> {
    state: Mutex<HandoffState<M>>,
    /// In the unit of `weigh`.
    capacity: usize,
    weigh: fn(&M) -> usize,
    poll_first: AtomicBool,
    changed: Notify,
    stopped: CancellationToken,
}

struct HandoffState<M> {
    messages: VecDeque<ReceivedMessage<M>>,
    weight: usize,
    /// When the queue in the store may have a visible message.
    poll_at: Timestamp,
}

impl<M> HandoffQueue<M> {
    pub(crate) fn new(capacity: usize, weigh: fn(&M) -> usize) -> Self {
        Self {
            state: Mutex::new(HandoffState {
                messages: VecDeque::new(),
                weight: 0,
                poll_at: now(),
            }),
            capacity,
            weigh,
            poll_first: AtomicBool::new(true),
            changed: Notify::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// Concurrent callers may push a little more than this.
    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.state().weight)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state().messages.len()
    }

    pub(crate) fn push(&self, messages: impl IntoIterator<Item = ReceivedMessage<M>>) {
        let mut state = self.state();
        for message in messages {
            state.weight += (self.weigh)(&message.message);
            state.messages.push_back(message);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Removes a message that was not received yet. False if it was.
    pub(crate) fn withdraw(&self, receipt: Receipt) -> bool {
        let mut state = self.state();
        let found = state.messages.iter().position(|one| one.receipt == receipt);
        let Some(withdrawn) = found.and_then(|at| state.messages.remove(at)) else {
            return false;
        };
        state.weight = state
            .weight
            .saturating_sub((self.weigh)(&withdrawn.message));
        true
    }

    /// The queue in the store may have a visible message at this time.
    pub(crate) fn poll_by(&self, at: Timestamp) {
        let mut state = self.state();
        state.poll_at = state.poll_at.min(at);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for messages that were pushed or that a poll finds. After [`HandoffQueue::stop`], returns the messages that
    /// were pushed and not received.
    pub(crate) async fn receive_or_poll<F>(
        &self,
        max: usize,
        poll: impl Fn() -> F,
    ) -> Vec<ReceivedMessage<M>>
    where
        F: Future<Output = Result<Poll<M>, StoreError>>,
    {
        while !self.is_stopped() {
            if !self.begins_poll() {
                match self.receive(max) {
                    received if received.is_empty() => self.wait().await,
                    received => return received,
                }
                continue;
            }
            match poll().await {
                Ok(Poll::Found(received)) => {
                    // There may be more messages, also for another consumer.
                    self.poll_by(now());
                    return received;
                }
                Ok(Poll::Empty(Some(next))) => self.poll_by(next),
                Ok(Poll::Empty(None)) => {}
                Err(why) => {
                    tracing::warn!(error = %why, "cannot receive from the embedded queue, trying again");
                    tokio::time::sleep(RETRY_AFTER).await;
                    self.poll_by(now());
                }
            }
        }
        self.receive(usize::MAX)
    }

    /// Whether a poll is due, which the caller then makes. Polls alternate with messages that were pushed.
    fn begins_poll(&self) -> bool {
        let mut state = self.state();
        let now = now();
        if state.poll_at > now {
            return false;
        }
        let poll_first = self.poll_first.fetch_xor(true, Ordering::Relaxed);
        if !poll_first && !state.messages.is_empty() {
            return false;
        }
        // Before the poll, so that a `poll_by` during it is kept.
        state.poll_at = now.after(POLL_EVERY);
        true
    }

    fn receive(&self, max: usize) -> Vec<ReceivedMessage<M>> {
        let mut state = self.state();
        let count = max.min(state.messages.len());
        let received: Vec<ReceivedMessage<M>> = state.messages.drain(..count).collect();
        let weight: usize = received
            .iter()
            .map(|message| (self.weigh)(&message.message))
            .sum();
        state.weight = state.weight.saturating_sub(weight);
        let is_left = !state.messages.is_empty();
        drop(state);
        if is_left {
            // For another consumer.
            self.changed.notify_one();
        }
        received
    }

    /// Waits for a change, the next poll or the stop.
    async fn wait(&self) {
        let rest = self.state().poll_at.remaining(now());
        tokio::select! {
            _ = timeout(rest.min(POLL_EVERY), self.changed.notified()) => {}
            () = self.stopped.cancelled() => {}
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.cancel();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    fn state(&self) -> MutexGuard<'_, HandoffState<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize) -> ReceivedMessage<usize> {
        ReceivedMessage {
            message: number,
            redelivered: false,
            delivery_count: 0,
            receipt: Receipt {
                session: 0,
                tag: number as u64,
            },
        }
    }

    fn received(queue: &HandoffQueue<usize>, max: usize) -> Vec<usize> {
        let received = queue.receive(max).into_iter();
        received.map(|one| one.message).collect()
    }

    #[test]
    fn pushed_messages_are_received_in_order_and_free_their_room() {
        let queue = HandoffQueue::new(10, |weight| *weight);
        queue.push([message(4), message(5)]);
        assert_eq!((queue.room(), queue.len()), (1, 2));
        assert_eq!(received(&queue, 1), [4]);
        assert_eq!(queue.room(), 5);
        assert_eq!(received(&queue, 9), [5]);
        assert_eq!(received(&queue, 9), [0; 0]);
        assert_eq!(queue.room(), 10);
    }

    #[test]
    fn a_message_can_be_withdrawn_until_it_is_received() {
        let queue = HandoffQueue::new(10, |weight| *weight);
        queue.push([message(2), message(3)]);
        let of = |number| message(number).receipt;
        assert!(queue.withdraw(of(2)));
        assert!(!queue.withdraw(of(2)));
        assert_eq!(queue.room(), 7);
        assert_eq!(received(&queue, 9), [3]);
        assert!(!queue.withdraw(of(3)), "it was received");
    }

    #[test]
    fn polls_are_made_when_due_and_alternate_with_pushed_messages() {
        let queue = HandoffQueue::new(10, |_| 1);
        assert!(
            queue.begins_poll(),
            "an earlier process may have left messages"
        );
        assert!(!queue.begins_poll(), "nothing has changed");
        queue.poll_by(now().after(Duration::from_secs(1)));
        assert!(!queue.begins_poll(), "it is not due");

        queue.push([message(1), message(2), message(3)]);
        let polls: Vec<bool> = (0..4)
            .map(|_| {
                queue.poll_by(now());
                queue.begins_poll()
            })
            .collect();
        assert!(polls == [true, false, true, false] || polls == [false, true, false, true]);
    }

    #[tokio::test]
    async fn a_waiting_consumer_wakes_for_a_push_a_poll_and_the_stop() {
        let queue = HandoffQueue::new(10, |_| 1);
        assert!(queue.begins_poll());
        queue.push([message(1)]);
        queue.wait().await;
        assert_eq!(received(&queue, 1), [1]);
        queue.poll_by(now());
        queue.wait().await;
        assert!(queue.begins_poll());
        queue.stop();
        queue.wait().await;
        assert!(queue.is_stopped());
    }
}
