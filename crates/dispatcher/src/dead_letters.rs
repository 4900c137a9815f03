//! Counts what was put aside, so that an operator hears of it without looking.

use std::sync::Arc;
use std::time::Duration;

use hookline_broker::contract::Publisher;
use opentelemetry::KeyValue;

const EVERY: Duration = Duration::from_secs(15);

/// Shows how many dead letters wait, for ever. Every dispatcher shows the same number.
pub async fn keep_counting(publisher: Arc<dyn Publisher>) {
    let waiting = opentelemetry::global::meter("hookline-dispatcher")
        .u64_gauge("hookline.dead_letters.waiting")
        .with_description("Dead letters that wait for somebody to look at them")
        .build();
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        // Readiness says when the queues cannot be reached.
        if let Ok(dead) = publisher.dead_waiting().await {
            waiting.record(dead.events, &[KeyValue::new("kind", "event")]);
            waiting.record(dead.deliveries, &[KeyValue::new("kind", "delivery")]);
        }
    }
}
