//! Puts deliveries aside that cannot be handled, say because what the store holds of them cannot be read.
//!
//! A delivery first ends as exhausted in the store, and then its message goes to the dead letters: a dead
//! letter of a pending delivery would be delivered all the same, once the reconciler finds the row. While
//! the store cannot end it, its message is held. This happens in the background, so a delivery that cannot
//! be ended holds no slot, no trial and none of the loops of the dispatcher.

use std::sync::Arc;
use std::time::Duration;

use hookline_broker::contract::Taken;
use hookline_core::delivery::{DeliveryState, GaveUp, OwedAttempt};
use hookline_core::ids::DeliveryId;
use hookline_runtime::panics;
use hookline_store::Store;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Dispatcher;
use crate::busy::Engaged;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

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

/// The deliveries that are being put aside.
#[derive(Clone)]
pub(crate) struct PuttingAside {
    dispatcher: Dispatcher,
    shutdown: CancellationToken,
    /// Bounded by the prefetch, because no message is acked before it is a dead letter.
    background: TaskTracker,
    /// One delivery is tried at a time, and its wait after a failure is part of its turn. A failed try
    /// costs a connection to the store, and a thousand deliveries may fail alike.
    turn: Arc<Mutex<()>>,
}

impl PuttingAside {
    pub(crate) fn new(dispatcher: Dispatcher, shutdown: CancellationToken) -> Self {
        Self {
            dispatcher,
            shutdown,
            background: TaskTracker::new(),
            turn: Arc::default(),
        }
    }

    /// Begins to put a delivery aside. It is busy until that is done.
    pub(crate) fn begin(&self, engaged: Engaged, reason: String) {
        let this = self.clone();
        self.background
            .spawn(panics::fatal("putting aside", async move {
                this.put_aside(engaged, &reason).await
            }));
    }

    /// Waits for those that have begun. They go back to the queue where the process is asked to stop.
    pub(crate) async fn end(&self) {
        self.background.close();
        self.background.wait().await;
    }

    async fn put_aside(&self, engaged: Engaged, reason: &str) {
        let Engaged { message, mut hold } = engaged;
        // This process is alive, so the message is not the one that ends it.
        hold.end_trial();
        let (source, delivery) = (&self.dispatcher.attempts, message.message.delivery);
        if !self.exhaust(&message).await {
            return source.put_back(vec![message]).await;
        }
        report(&self.dispatcher.store, &[delivery], reason).await;
        if let Err(why) = source.bury(message, reason).await {
            tracing::warn!(delivery.id = %delivery, error = %why, "could not dead-letter a message; it comes again");
        }
    }

    /// Ends the delivery as exhausted, in as many tries as that takes. False where the process stops, and
    /// where the message came on a connection that has died: then it comes again.
    async fn exhaust(&self, message: &Taken<OwedAttempt>) -> bool {
        let Dispatcher {
            store, attempts, ..
        } = &self.dispatcher;
        let mut wait = FIRST_WAIT;
        while attempts.holds(message) {
            let _turn = self.turn.lock().await;
            if self.shutdown.is_cancelled() {
                return false;
            }
            let poison = DeliveryState::Exhausted {
                at: hookline_clock::now(),
                why: GaveUp::Poison,
            };
            let Err(why) = store.end_alone(message.message, poison).await else {
                return true;
            };
            tracing::warn!(
                delivery.id = %message.message.delivery,
                error = %why,
                wait_ms = wait.as_millis(),
                "could not end a delivery that is put aside, trying again"
            );
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shutdown.cancelled() => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        false
    }
}
