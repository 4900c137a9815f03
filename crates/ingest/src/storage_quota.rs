//! Organizations that are at their storage quota. Their events are deferred, a minute at a time, until older ones are
//! deleted or the quota is raised. Events of others pass.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_core::ids::OrganizationId;
use hookline_store::Store;
use tokio::sync::Mutex;

/// How long events of an organization at its quota are deferred.
pub(crate) const DEFER_FOR: Duration = Duration::from_secs(60);

/// How long an answer of the store is used.
const CACHED_FOR: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct StorageQuota {
    /// Bytes of an organization; none for no quota.
    limit: Option<u64>,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    read: Option<Instant>,
    full: Arc<HashSet<OrganizationId>>,
    logged: Option<Instant>,
}

impl StorageQuota {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self {
            limit,
            cache: Mutex::default(),
        }
    }

    /// The organizations at their quota. Empty while the store does not answer, because nothing can be stored then.
    pub(crate) async fn full(&self, store: &Store) -> Arc<HashSet<OrganizationId>> {
        let Some(limit) = self.limit else {
            return Arc::default();
        };
        let mut cache = self.cache.lock().await;
        if cache.read.is_none_or(|at| at.elapsed() >= CACHED_FOR) {
            cache.full = match store.organizations_over_quota(limit).await {
                Ok(full) => Arc::new(full),
                Err(why) => {
                    tracing::debug!(error = %why, "cannot read the storage usage");
                    Arc::default()
                }
            };
            cache.read = Some(Instant::now());
        }
        let logs = cache.logged.is_none_or(|at| at.elapsed() >= DEFER_FOR);
        if logs && let Some(one) = cache.full.iter().min() {
            tracing::warn!(
                organizations = cache.full.len(),
                organization.id = %one,
                "deferred events: their organization is at its storage quota"
            );
            cache.logged = Some(Instant::now());
        }
        Arc::clone(&cache.full)
    }
}
