//! What the system does to subscriptions by itself, and telling operators of it.
//!
//! A subscription whose every attempt has failed for too long is switched off here; one whose
//! receiver answers 410 was, with the attempt. Either way the same transaction writes down what
//! operators are to be told, and it is forgotten only after they were. So they are told at least
//! once, under the same id each time.
//!
//! Any dispatcher does it for all. Two that do it at once switch off once and may tell twice.

use std::sync::Arc;
use std::time::Duration;

use hookline_queue::QueueError;
use hookline_runtime::failpoint;
use hookline_runtime::panics;
use hookline_store::StoreError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::context::{Dispatcher, TRY_AGAIN_AFTER};

/// How often somebody looks without being asked: what has failed for long enough by now, and what
/// one who died could not tell.
const EVERY: Duration = Duration::from_secs(5);

/// Why a look came to nothing; the next one tries again.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Where whoever records attempts says that there may be something.
#[derive(Clone)]
pub(crate) struct AutoDisable {
    asked: Arc<Notify>,
}

impl AutoDisable {
    /// Soon. Costs nothing, however often it is said.
    pub(crate) fn look(&self) {
        self.asked.notify_one();
    }
}

/// Looks until `shutdown`; what is left then is told after the next start.
pub(crate) fn start(dispatcher: Dispatcher, shutdown: CancellationToken) -> AutoDisable {
    let asked = Arc::new(Notify::new());
    let operations = AutoDisable {
        asked: Arc::clone(&asked),
    };
    tokio::spawn(panics::fatal("operations", async move {
        let mut turns = tokio::time::interval(EVERY);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                () = asked.notified() => {}
                () = shutdown.cancelled() => return,
            }
            if let Err(why) = look(&dispatcher).await {
                tracing::warn!(error = %why, "could not look after failing subscriptions, trying again");
                turns.reset_after(TRY_AGAIN_AFTER);
            }
        }
    }));
    operations
}

async fn look(dispatcher: &Dispatcher) -> Result<(), Failed> {
    let Dispatcher {
        store,
        publisher,
        policy,
        ..
    } = dispatcher;
    if let Some(failing_for) = policy.failing_after {
        let now = || hookline_clock::now();
        while store.disable_failing(failing_for, now()).await? > 0 {}
    }
    loop {
        let events = store.unpublished_operational_events().await?;
        if events.is_empty() {
            return Ok(());
        }
        failpoint::point("operations::disabled");
        publisher.announce(&events).await?;
        failpoint::point("operations::announced");
        for event in &events {
            tracing::warn!(
                subscription.id = %event.subscription,
                organization.id = %event.organization,
                reason = event.reason.as_str(),
                event.id = %event.id,
                "switched a subscription off"
            );
        }
        let told = events.iter().map(|event| event.id).collect();
        store.mark_published(told).await?;
    }
}
