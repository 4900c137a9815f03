//! Calls back what was put off, when its receiver is well again before that comes by itself.

use std::sync::Arc;

use hookline_broker::contract::{Publisher, Scheduled};
use hookline_core::ids::SubscriptionId;
use hookline_runtime::panics;
use hookline_store::Store;
use opentelemetry::metrics::Counter;
use tokio::sync::mpsc;

use crate::Dispatcher;

#[derive(Clone)]
pub(crate) struct Caller {
    store: Store,
    publisher: Arc<dyn Publisher>,
    called_back: Counter<u64>,
    /// Told of subscriptions of which nothing is put off any more.
    all_back: mpsc::UnboundedSender<SubscriptionId>,
}

impl Caller {
    pub(crate) fn new(
        dispatcher: &Dispatcher,
        all_back: mpsc::UnboundedSender<SubscriptionId>,
    ) -> Self {
        let meter = opentelemetry::global::meter("hookline-dispatcher");
        Self {
            store: dispatcher.store.clone(),
            publisher: Arc::clone(&dispatcher.publisher),
            called_back: meter.u64_counter("hookline.parked.called_back").build(),
            all_back,
        }
    }

    /// Nobody waits for it; a lane asks for it once for each so many that it has delivered.
    pub(crate) fn call_back(&self, subscription: SubscriptionId, count: u32) {
        let caller = self.clone();
        tokio::spawn(panics::fatal("calling back", async move {
            caller.fetch(subscription, count).await
        }));
    }

    async fn fetch(&self, subscription: SubscriptionId, count: u32) {
        let now = hookline_clock::now();
        let found = match self.store.call_back(subscription, count, now).await {
            Ok(found) => found,
            Err(why) => {
                tracing::debug!(subscription.id = %subscription, error = %why, "could not call deliveries back");
                return;
            }
        };
        if found.is_empty() {
            // Nobody listens any more when the process stops.
            let _ = self.all_back.send(subscription);
            return;
        }
        let attempts: Vec<Scheduled> = found.into_iter().map(Scheduled::at_once).collect();
        self.publisher.wake(&attempts);
        let count = attempts.len();
        self.called_back
            .add(u64::try_from(count).unwrap_or(u64::MAX), &[]);
        tracing::debug!(subscription.id = %subscription, deliveries = count, "called deliveries back");
    }
}
