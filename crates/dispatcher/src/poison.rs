//! A delivery that cannot be handled, say because what the store holds of it cannot be read.

use hookline_broker::contract::Taken;
use hookline_core::delivery::{DeliveryState, GaveUp, OwedAttempt};
use hookline_runtime::patience::Ended;
use hookline_store::StoreError;

use crate::Dispatcher;
use crate::busy::Engaged;

/// Counts deliveries that ended as poison.
pub(crate) fn given_up(deliveries: u64) {
    opentelemetry::global::meter("hookline-dispatcher")
        .u64_counter("hookline.deliveries.given_up")
        .build()
        .add(deliveries, &[]);
}

impl Dispatcher {
    /// Puts messages back when the process stops; what the store holds of them and cannot be read
    /// ends as a dead letter.
    pub(crate) async fn give_up<T>(&self, messages: Vec<Engaged>, ended: Ended<T, StoreError>) {
        let messages = messages.into_iter().map(|engaged| engaged.message);
        let Ended::Failed(why) = ended else {
            return self.attempts.put_back(messages.collect()).await;
        };
        for message in messages {
            self.bury(message, &why.to_string()).await;
        }
    }

    /// The delivery ends as exhausted, so that nobody takes its lost message for an owed one, and
    /// the message goes to the dead letters.
    pub(crate) async fn bury(&self, message: Taken<OwedAttempt>, reason: &str) {
        let owed = message.message;
        let delivery = owed.delivery;
        given_up(1);
        tracing::error!(delivery.id = %delivery, reason, "gave up a delivery that cannot be handled");
        let at = hookline_clock::now();
        let poison = DeliveryState::Exhausted {
            at,
            why: GaveUp::Poison,
        };
        if let Err(why) = self.store.end(vec![owed], poison).await {
            tracing::warn!(delivery.id = %delivery, error = %why, "could not mark a delivery as exhausted");
        }
        if let Err(why) = self.attempts.bury(message, reason).await {
            tracing::warn!(error = %why, "could not put a message to the dead letters; it comes again");
        }
    }
}
