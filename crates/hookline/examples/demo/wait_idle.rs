//! Waits until the log of the API agrees with the receivers. A receiver has a request shortly before the log has its
//! attempt.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::api::{LogEntry, State};
use crate::behaviour::Behaviour;
use crate::ledger::Ledger;
use crate::subscriptions::Subscription;
use crate::system::{ORGANIZATIONS, System};

const TIMEOUT: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(100);

/// One subscription in the API.
#[derive(Debug, Clone, Default)]
pub(crate) struct ApiView {
    pub(crate) state: State,
    /// The number of attempts in the log.
    pub(crate) attempts: usize,
    /// Deliveries with a successful attempt.
    pub(crate) delivered: BTreeSet<String>,
}

impl ApiView {
    pub(crate) fn is_gone(&self) -> bool {
        !self.state.is_active && self.state.disabled_reason.as_deref() == Some("gone")
    }
}

/// Returns the last view of each subscription, also when they disagree after [`TIMEOUT`].
pub(crate) async fn until_idle(
    system: &System,
    ledger: &Ledger,
    subscriptions: &[Subscription],
) -> anyhow::Result<Vec<ApiView>> {
    let began = Instant::now();
    loop {
        let views = ask(system, subscriptions).await?;
        let agreed = subscriptions.iter().zip(&views).enumerate();
        let agreed = agreed.into_iter().all(|(index, (subscription, view))| {
            view.delivered == ledger.accepted(index)
                && (subscription.behaviour != Behaviour::Leaving || view.is_gone())
        });
        if agreed || began.elapsed() > TIMEOUT {
            return Ok(views);
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

async fn ask(system: &System, subscriptions: &[Subscription]) -> anyhow::Result<Vec<ApiView>> {
    let mut log: Vec<LogEntry> = Vec::new();
    for organization in ORGANIZATIONS {
        log.extend(system.api(organization)?.whole_log().await?);
    }
    let mut all = Vec::with_capacity(subscriptions.len());
    for subscription in subscriptions {
        let api = system.api(subscription.organization)?;
        let mut view = ApiView {
            state: api.state(subscription.id).await?,
            ..ApiView::default()
        };
        for entry in log
            .iter()
            .filter(|entry| entry.subscription_id == subscription.id)
        {
            view.attempts += 1;
            if entry.is_success {
                view.delivered.insert(entry.delivery_id.clone());
            }
        }
        all.push(view);
    }
    Ok(all)
}
