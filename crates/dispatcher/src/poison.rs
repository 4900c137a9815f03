//! A delivery that cannot be handled, say because what the store holds of it cannot be read.

use hookline_broker::contract::Taken;
use hookline_core::delivery::{DeliveryState, GaveUp, OwedAttempt};
use hookline_core::ids::DeliveryId;
use hookline_store::Store;

use crate::Dispatcher;

/// Counts deliveries that have ended as poison, and says of each where it came from. The store may not
/// be able to tell: then the line has the delivery's id alone.
pub(crate) async fn report(store: &Store, deliveries: &[DeliveryId], reason: &str) {
    opentelemetry::global::meter("hookline-dispatcher")
        .u64_counter("hookline.deliveries.given_up")
        .build()
        .add(deliveries.len() as u64, &[]);
    let sources = store.sources(deliveries.to_vec()).await.unwrap_or_default();
    for delivery in deliveries {
        let source = sources.get(delivery);
        tracing::warn!(
            delivery.id = %delivery,
            event.id = source.and_then(|source| source.event.as_deref()),
            organization.id = source.map(|source| source.organization.as_str()),
            reason,
            "put a delivery aside that cannot be handled"
        );
    }
}

impl Dispatcher {
    /// The delivery ends as exhausted, so that nobody takes its lost message for an owed one, and
    /// the message goes to the dead letters.
    pub(crate) async fn bury(&self, message: Taken<OwedAttempt>, reason: &str) {
        let owed = message.message;
        let delivery = owed.delivery;
        report(&self.store, &[delivery], reason).await;
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
