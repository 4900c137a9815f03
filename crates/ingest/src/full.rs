//! Organizations of which as much is kept as may be. Their events wait, a minute at a time, until
//! older ones are forgotten or the limit is raised; those of others pass.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_core::ids::OrganizationId;
use hookline_store::Store;
use tokio::sync::Mutex;

/// How long their events wait before somebody looks again.
pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// How long an answer of the store is believed.
const BELIEVED: Duration = Duration::from_secs(5);

/// Who has no room, as far as was seen.
#[derive(Debug)]
pub(crate) struct Full {
    limit: Option<u64>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    full: Arc<HashSet<OrganizationId>>,
    said: Option<Instant>,
}

impl Full {
    /// Nobody yet; without a limit nobody ever.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self {
            limit,
            seen: Mutex::default(),
        }
    }

    /// Who has no room now. While the store does not say, nobody: taking in will show it.
    pub(crate) async fn now(&self, store: &Store) -> Arc<HashSet<OrganizationId>> {
        let Some(limit) = self.limit else {
            return Arc::default();
        };
        let mut seen = self.seen.lock().await;
        if seen.at.is_none_or(|at| at.elapsed() >= BELIEVED) {
            seen.full = match store.stored_at_least(limit).await {
                Ok(full) => Arc::new(full),
                Err(why) => {
                    tracing::debug!(error = %why, "could not see what is stored of whom");
                    Arc::default()
                }
            };
            seen.at = Some(Instant::now());
        }
        let quiet = seen.said.is_none_or(|said| said.elapsed() >= WAIT);
        if quiet && let Some(one) = seen.full.iter().min() {
            tracing::warn!(
                organizations = seen.full.len(),
                organization.id = %one,
                "events wait: as much is stored of their organization as may be"
            );
            seen.said = Some(Instant::now());
        }
        Arc::clone(&seen.full)
    }
}
