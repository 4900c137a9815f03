//! Owed attempts: a delivery's row is its own entry in the queue.

use async_trait::async_trait;
use hookline_broker::contract::{QueueError, Receipt, Source, Taken};
use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::DeliveryId;
use hookline_store::{LEASE, TakenAttempt};

use super::desk::Look;
use super::{Queues, now, returns, unavailable};

#[async_trait]
impl Source<OwedAttempt> for Queues {
    async fn take(&self, max: usize) -> Vec<Taken<OwedAttempt>> {
        let queue = &self.queue;
        let look = || async move {
            let found = queue.take_attempts(max, now(), now().after(LEASE)).await?;
            if found.is_empty() {
                return Ok(Look::Nothing(queue.next_due().await?));
            }
            Ok(Look::Found(found.into_iter().map(attempt).collect()))
        };
        self.attempts.take_or_look(max, look).await
    }

    /// The row has moved on with the record of its attempt, and its entry with it.
    async fn ack(&self, _: Vec<Taken<OwedAttempt>>) {}

    async fn release(&self, taken: Vec<Taken<OwedAttempt>>) {
        if let Err(why) = self.queue.release_attempts(deliveries_of(&taken)).await {
            tracing::warn!(error = %why, "could not release attempts; they come again later");
        }
        self.attempts.look_by(now());
    }

    async fn put_back(&self, taken: Vec<Taken<OwedAttempt>>) {
        if let Err(why) = self.queue.put_back_attempts(deliveries_of(&taken)).await {
            tracing::warn!(error = %why, "could not put attempts back; they come again later");
        }
        self.attempts.look_by(now());
    }

    fn stop(&self) {
        self.attempts.stop();
    }

    /// Nobody else delivers from the folder.
    fn holds(&self, _: &Taken<OwedAttempt>) -> bool {
        true
    }

    async fn bury(&self, taken: Taken<OwedAttempt>, reason: &str) -> Result<(), QueueError> {
        self.queue
            .bury_attempt(taken.message, reason.to_owned(), now())
            .await
            .map_err(unavailable)
    }

    fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }
}

pub(super) fn attempt(entry: TakenAttempt) -> Taken<OwedAttempt> {
    Taken {
        message: entry.owed,
        redelivered: entry.takes > 1,
        returns: returns(entry.takes),
        receipt: Receipt { session: 0, tag: 0 },
    }
}

fn deliveries_of(taken: &[Taken<OwedAttempt>]) -> Vec<DeliveryId> {
    taken.iter().map(|one| one.message.delivery).collect()
}
