//! Counts rejected events and dead deliveries, for a gauge.

use std::sync::Arc;
use std::time::Duration;

use hookline_queue::Publisher;
use hookline_store::Store;
use opentelemetry::KeyValue;

use crate::context::ticks_every;

const EVERY: Duration = Duration::from_secs(15);

/// Publishes the number of dead letters, for ever. Every dispatcher publishes the same number.
pub async fn keep_counting(store: Store, publisher: Arc<dyn Publisher>) {
    let waiting = opentelemetry::global::meter("hookline-dispatcher")
        .u64_gauge("hookline.dead_letters.waiting")
        .with_description("Dead letters that wait for an operator")
        .build();
    let mut ticks = ticks_every(EVERY);
    loop {
        ticks.tick().await;
        // Readiness reports when the queues cannot be reached.
        if let Ok(events) = publisher.rejected_count().await {
            waiting.record(events, &[KeyValue::new("kind", "event")]);
        }
        if let Ok(deliveries) = store.count_dead_deliveries().await {
            waiting.record(deliveries, &[KeyValue::new("kind", "delivery")]);
        }
    }
}
