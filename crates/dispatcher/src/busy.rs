//! The deliveries that this process is busy with.
//!
//! A message can come a second time while its attempt is being made: the broker gives it to us
//! again when a connection dies, or the reconciler takes it for lost. Making the attempt twice
//! would be allowed and rude. So the second message waits until the first one's attempt is
//! recorded, and is asked about afresh: only then does the store know what it means.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookline_broker::contract::Taken;
use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::DeliveryId;
use tokio::sync::mpsc;

use crate::trials::{OnTrial, Tried};

/// What waits for each delivery that somebody is busy with; bounded by the prefetch, for none of
/// it is acked.
type Waiting = HashMap<DeliveryId, Vec<Taken<OwedAttempt>>>;

/// The messages that waited for a delivery which is no longer busy.
pub(crate) type Waited = mpsc::UnboundedReceiver<Vec<Taken<OwedAttempt>>>;

/// All that are busy.
#[derive(Clone)]
pub(crate) struct Busy {
    waiting: Arc<Mutex<Waiting>>,
    again: mpsc::UnboundedSender<Vec<Taken<OwedAttempt>>>,
}

/// A message whose delivery is busy until [`Hold`] is dropped.
pub(crate) struct Engaged {
    /// The message.
    pub(crate) message: Taken<OwedAttempt>,
    /// To be kept until the message is dealt with.
    pub(crate) hold: Hold,
}

/// One delivery that is busy.
pub(crate) struct Hold {
    delivery: DeliveryId,
    busy: Busy,
    /// Lasts as long as the delivery is busy.
    trial: Option<OnTrial>,
}

impl Busy {
    /// Nothing is busy yet. What has waited comes out of the receiver.
    pub(crate) fn new() -> (Self, Waited) {
        let (again, waited) = mpsc::unbounded_channel();
        (
            Self {
                waiting: Arc::default(),
                again,
            },
            waited,
        )
    }

    /// Engages the message's delivery, or keeps the message until that is free.
    pub(crate) fn engage(&self, message: Taken<OwedAttempt>) -> Option<Engaged> {
        let delivery = message.message.delivery;
        let mut waiting = self.lock();
        if let Some(queue) = waiting.get_mut(&delivery) {
            queue.push(message);
            return None;
        }
        waiting.insert(delivery, Vec::new());
        let hold = Hold {
            delivery,
            busy: self.clone(),
            trial: None,
        };
        Some(Engaged { message, hold })
    }

    /// The same for a suspect, whose trial lasts as long.
    pub(crate) fn engage_on_trial(&self, (message, trial): Tried) -> Option<Engaged> {
        let mut engaged = self.engage(message)?;
        engaged.hold.trial = Some(trial);
        Some(engaged)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engaged {
    /// Gives the message back to the worker, as one that comes for the first time.
    pub(crate) fn come_again(self) {
        let Self { message, hold } = self;
        if let Some(waiting) = hold.busy.lock().get_mut(&hold.delivery) {
            waiting.insert(0, message);
        }
    }
}

impl Hold {
    /// Ends the trial, and not the hold: the process has not died of this delivery.
    pub(crate) fn end_trial(&mut self) {
        self.trial = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let waited = self.busy.lock().remove(&self.delivery).unwrap_or_default();
        if !waited.is_empty() {
            // Nobody listens any more when the process stops: the broker gives them to others.
            let _ = self.busy.again.send(waited);
        }
    }
}

#[cfg(test)]
mod tests {
    use hookline_broker::contract::Receipt;
    use hookline_core::ids::SubscriptionId;

    use super::*;

    fn message(tag: u64) -> Taken<OwedAttempt> {
        let delivery = DeliveryId(Default::default());
        Taken {
            message: OwedAttempt {
                delivery,
                generation: 0,
                attempt: 1,
                subscription: SubscriptionId(1),
            },
            redelivered: true,
            returns: 0,
            receipt: Receipt { session: 0, tag },
        }
    }

    #[test]
    fn a_second_message_of_a_delivery_waits_until_the_first_is_dealt_with() {
        let (busy, mut waited) = Busy::new();
        let engaged = busy.engage(message(1)).unwrap();
        assert!(busy.engage(message(2)).is_none());
        assert!(busy.engage(message(3)).is_none());
        assert!(waited.try_recv().is_err());
        drop(engaged);
        let tags: Vec<u64> = waited
            .try_recv()
            .unwrap()
            .iter()
            .map(|taken| taken.receipt.tag)
            .collect();
        assert_eq!(tags, [2, 3]);
        assert!(busy.engage(message(4)).is_some());
    }

    #[test]
    fn a_message_that_comes_again_is_the_first_of_its_delivery() {
        let (busy, mut waited) = Busy::new();
        let engaged = busy.engage(message(1)).unwrap();
        assert!(busy.engage(message(2)).is_none());
        engaged.come_again();
        let tags = waited.try_recv().unwrap();
        let tags: Vec<u64> = tags.iter().map(|taken| taken.receipt.tag).collect();
        assert_eq!(tags, [1, 2]);
        assert!(busy.engage(message(3)).is_some());
    }
}
