//! A delivery that cannot be handled, say because what the store holds of it cannot be read.

use std::time::SystemTime;

use hookline_broker::contract::Taken;
use hookline_core::delivery::{DeliveryState, GaveUp, OwedAttempt};
use hookline_core::timestamp::Timestamp;

use crate::Dispatcher;

/// Counts deliveries that ended as poison.
pub(crate) fn given_up(deliveries: u64) {
    opentelemetry::global::meter("hookline-dispatcher")
        .u64_counter("hookline.deliveries.given_up")
        .build()
        .add(deliveries, &[]);
}

impl Dispatcher {
    /// The delivery ends as exhausted, so that nobody takes its lost message for an owed one, and
    /// the message goes to the dead letters.
    pub(crate) async fn bury(&self, message: Taken<OwedAttempt>, reason: &str) {
        let owed = message.message;
        let delivery = owed.delivery;
        given_up(1);
        tracing::error!(delivery.id = %delivery, reason, "gave up a delivery that cannot be handled");
        let at = Timestamp::from(SystemTime::now());
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
