//! The parts of the API, and the state that all of its workers share.

use std::sync::Arc;

use hookline_core::target::TargetRules;
use hookline_queue::Publisher;
use hookline_runtime::readiness::Readiness;
use hookline_store::Store;
use tokio_util::sync::CancellationToken;

use crate::config::{ApiConfig, CorsOrigins};
use crate::limits::concurrency::ConcurrencyLimit;
use crate::limits::failed_auth::FailedAuthLimit;
use crate::limits::memory::MemoryBudget;
use crate::limits::rates::RateLimits;
use crate::limits::trusted_proxies::TrustedProxies;
use crate::live::Live;

/// The parts of the API.
#[derive(Clone)]
pub struct Api {
    pub store: Store,
    pub publisher: Arc<dyn Publisher>,
    /// The rules for a subscription's URL.
    pub rules: TargetRules,
    pub config: ApiConfig,
    pub proxies: TrustedProxies,
    pub cors: CorsOrigins,
    /// The source of `/readyz`.
    pub readiness: Readiness,
}

/// The state of handlers and of authentication.
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) api: Arc<Api>,
    pub(crate) rate_limits: Arc<RateLimits>,
    pub(crate) concurrency: ConcurrencyLimit,
    pub(crate) failed_auth: Arc<FailedAuthLimit>,
    pub(crate) body_memory: MemoryBudget,
    pub(crate) live: Live,
}

impl AppState {
    /// Live streams end with `stopping`.
    pub(crate) fn new(api: Api, stopping: CancellationToken) -> Self {
        let config = &api.config;
        Self {
            rate_limits: Arc::new(RateLimits::new(config)),
            concurrency: ConcurrencyLimit::new(config.max_requests_per_key),
            failed_auth: Arc::new(FailedAuthLimit::new(config.failed_auth_rate)),
            body_memory: MemoryBudget::for_bodies(),
            live: Live::new(config, stopping),
            api: Arc::new(api),
        }
    }
}
