//! Automatic disabling of subscriptions, and operational events about it.
//!
//! This job switches off a subscription with nothing but failed attempts for too long. After a 410 of the receiver, the
//! record of the attempt has switched it off. In both cases the same transaction writes the operational event. The
//! event is deleted only after its publication. Operators are thus told at least once, under the same id each time.
//!
//! Any dispatcher does this for all subscriptions. Two that do it at once switch off once and may publish twice.

use std::sync::Arc;
use std::time::Duration;

use hookline_runtime::failpoint;
use hookline_runtime::panics;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::context::{Dispatcher, TRY_AGAIN_AFTER, ticks_every};

/// The time between two looks without a request. They find subscriptions that have failed for long enough by now. They
/// also find events that a dispatcher left when it died.
const EVERY: Duration = Duration::from_secs(5);

/// Requests a look. The recorder of attempts uses it when there may be a subscription to disable.
#[derive(Clone)]
pub(crate) struct AutoDisable {
    requested: Arc<Notify>,
}

impl AutoDisable {
    /// Requests a look soon. A repeated request costs nothing.
    pub(crate) fn look(&self) {
        self.requested.notify_one();
    }
}

/// Looks until `shutdown`. Events that are left then are published after the next start.
pub(crate) fn start(dispatcher: Dispatcher, shutdown: CancellationToken) -> AutoDisable {
    let requested = Arc::new(Notify::new());
    let auto_disable = AutoDisable {
        requested: Arc::clone(&requested),
    };
    tokio::spawn(panics::fatal("automatic disable", async move {
        let mut ticks = ticks_every(EVERY);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = requested.notified() => {}
                () = shutdown.cancelled() => return,
            }
            if let Err(why) = look(&dispatcher).await {
                tracing::warn!(error = %why, "could not disable failing subscriptions, trying again");
                ticks.reset_after(TRY_AGAIN_AFTER);
            }
        }
    }));
    auto_disable
}

async fn look(dispatcher: &Dispatcher) -> anyhow::Result<()> {
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
                "disabled subscription"
            );
        }
        let published = events.iter().map(|event| event.id).collect();
        store.mark_published(published).await?;
    }
}
