//! What the API says in the end. Receivers know of a delivery a moment before its log does, so it
//! is asked until both agree, or for so long that they never will.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::api::{LogEntry, State};
use crate::ledger::Ledger;
use crate::receivers::Manner;
use crate::subscriptions::Subscription;
use crate::system::{ORGANIZATIONS, System};

const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// One subscription as the API has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settled {
    pub(crate) state: State,
    /// Attempts in the log.
    pub(crate) attempts: usize,
    /// Deliveries with a successful one.
    pub(crate) delivered: BTreeSet<String>,
}

impl Settled {
    pub(crate) fn is_gone(&self) -> bool {
        !self.state.is_active && self.state.disabled_reason.as_deref() == Some("gone")
    }
}

/// The last word of the API, by subscription.
pub(crate) async fn until_settled(
    system: &System,
    ledger: &Ledger,
    subscriptions: &[Subscription],
) -> anyhow::Result<Vec<Settled>> {
    let began = Instant::now();
    loop {
        let settled = ask(system, subscriptions).await?;
        let agreed = subscriptions.iter().zip(&settled).enumerate();
        let agreed = agreed.into_iter().all(|(index, (subscription, settled))| {
            settled.delivered == ledger.accepted(index)
                && (subscription.manner != Manner::Leaving || settled.is_gone())
        });
        if agreed || began.elapsed() > PATIENCE {
            return Ok(settled);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn ask(system: &System, subscriptions: &[Subscription]) -> anyhow::Result<Vec<Settled>> {
    let mut log: Vec<LogEntry> = Vec::new();
    for organization in ORGANIZATIONS {
        log.extend(system.api(organization)?.whole_log().await?);
    }
    let mut all = Vec::with_capacity(subscriptions.len());
    for subscription in subscriptions {
        let api = system.api(subscription.organization)?;
        let mut settled = Settled {
            state: api.state(subscription.id).await?,
            ..Settled::default()
        };
        for entry in log
            .iter()
            .filter(|entry| entry.subscription_id == subscription.id)
        {
            settled.attempts += 1;
            if entry.is_success {
                settled.delivered.insert(entry.delivery_id.clone());
            }
        }
        all.push(settled);
    }
    Ok(all)
}
