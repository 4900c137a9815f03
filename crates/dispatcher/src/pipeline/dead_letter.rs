//! Dead-letters deliveries that cannot be handled, for example because the row in the store cannot be read.
//!
//! A delivery ends as exhausted in the store, with the reason `poison`. While the store cannot end it, it stays in
//! hand. All of this happens in the background. Such a delivery holds no slot, no quarantine and none of the loops of
//! the dispatcher.

use std::sync::Arc;
use std::time::Duration;

use hookline_core::ids::DeliveryId;
use hookline_runtime::panics;
use hookline_store::Store;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Dispatcher;
use crate::due::InHand;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Counts deliveries that have ended as poison, and logs the origin of each. Where the store cannot answer, the log
/// line has the delivery's id alone.
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
            "dead-lettered delivery"
        );
    }
}

/// The deliveries that are being dead-lettered.
#[derive(Clone)]
pub(crate) struct DeadLettering {
    dispatcher: Dispatcher,
    shutdown: CancellationToken,
    /// Bounded by the room for due rows, because these deliveries take a part of it.
    background: TaskTracker,
    /// Allows one delivery at a time, including its wait after a failure. A failed try costs a connection to the store,
    /// and a thousand deliveries may fail alike.
    turn: Arc<Mutex<()>>,
}

impl DeadLettering {
    pub(crate) fn new(dispatcher: Dispatcher, shutdown: CancellationToken) -> Self {
        Self {
            dispatcher,
            shutdown,
            background: TaskTracker::new(),
            turn: Arc::default(),
        }
    }

    /// Begins to dead-letter a delivery. It is in hand until that is done.
    pub(crate) fn begin(&self, in_hand: InHand, reason: String) {
        let this = self.clone();
        self.background
            .spawn(panics::fatal("dead letters", async move {
                this.dead_letter(in_hand, &reason).await
            }));
    }

    /// Waits for those that have begun. Where the process is asked to stop, they stay due.
    pub(crate) async fn end(&self) {
        self.background.close();
        self.background.wait().await;
    }

    async fn dead_letter(&self, mut in_hand: InHand, reason: &str) {
        // This process is alive: the delivery has not ended it.
        in_hand.leave_quarantine();
        if self.exhaust(&in_hand, reason).await {
            report(&self.dispatcher.store, &[in_hand.task.delivery], reason).await;
        }
    }

    /// Ends the delivery as exhausted, with as many tries as this takes. Returns false where the process stops or its
    /// partition has another owner. That owner finds the delivery due.
    async fn exhaust(&self, in_hand: &InHand, reason: &str) -> bool {
        let store = &self.dispatcher.store;
        let mut wait = FIRST_WAIT;
        while in_hand.is_owned() {
            let _turn = self.turn.lock().await;
            if self.shutdown.is_cancelled() {
                return false;
            }
            let now = hookline_clock::now();
            let Err(why) = store
                .dead_letter_delivery(in_hand.task, reason.to_owned(), now)
                .await
            else {
                return true;
            };
            tracing::warn!(
                delivery.id = %in_hand.task.delivery,
                error = %why,
                wait_ms = wait.as_millis(),
                "could not dead-letter delivery, trying again"
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
