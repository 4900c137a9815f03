//! The parts that the API is made of, and the state that all of its workers share.

use std::sync::Arc;
use std::time::Duration;

use hookline_core::ids::KeyId;
use hookline_core::rate::{Rate, SharedRates};
use hookline_core::target::TargetRules;
use hookline_queue::Publisher;
use hookline_runtime::hosts::Hosts;
use hookline_runtime::http::Clocks;
use hookline_runtime::readiness::Readiness;
use hookline_runtime::settings::Settings;
use hookline_store::Store;

use crate::limits::concurrency::InFlight;
use crate::limits::failed_auth::Tries;
use crate::limits::last_use::LastUse;
use crate::limits::memory::ByteRoom;
use crate::limits::per_minute::PerMinute;
use crate::limits::published::Published;
use crate::limits::trusted_proxies::Proxies;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What the API is made of.
#[derive(Clone)]
pub struct Api {
    /// Where subscriptions, keys and logs are.
    pub store: Store,
    /// Where events and tests go.
    pub publisher: Arc<dyn Publisher>,
    /// Where a subscription may point.
    pub rules: TargetRules,
    /// The limits.
    pub settings: ApiSettings,
    /// The proxies that name their callers.
    pub proxies: Proxies,
    /// What `/readyz` says.
    pub readiness: Readiness,
}

/// The limits of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiSettings {
    /// How long a request may take until it is answered with 503.
    pub request_deadline: Duration,
    /// The most subscriptions of an organization.
    pub max_subscriptions: u32,
    /// The most test events of an organization within a minute; beyond that it is answered with 429.
    pub max_tests_per_minute: u32,
    /// The most retries by hand of an organization within a minute; beyond that it is answered with 429.
    pub max_retries_per_minute: u32,
    /// The most requests of one API key at the same time; beyond that it is answered with 429.
    pub max_requests_per_key: u32,
    /// The most replays that an organization may have running.
    pub max_running_replays: u32,
    /// How often one API key may ask; beyond that it is answered with 429.
    pub requests_of_key: Rate,
    /// How often one address may come with a wrong key; beyond that a wrong key is answered with 429.
    pub failed_tries: Rate,
    /// How many events an organization may publish; beyond that it is answered with 429.
    pub events_of_organization: Option<hookline_core::rate::Rate>,
    /// How many bytes of an organization's events are kept; beyond that it is answered with 429.
    pub max_stored_bytes: Option<u64>,
    /// The most connections; for one more, the one that has waited longest without a good key is closed.
    pub max_connections: usize,
    /// How long a connection may take for what it owes.
    pub clocks: Clocks,
    /// How many threads serve requests.
    pub workers: usize,
    /// Which names in `Host` are answered.
    pub hosts: Hosts,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            request_deadline: Duration::from_secs(5),
            max_subscriptions: 1_000,
            max_tests_per_minute: 60,
            max_retries_per_minute: 600,
            max_requests_per_key: 256,
            max_running_replays: 5,
            requests_of_key: Rate::new(5_000, SECOND).with_burst(10_000),
            failed_tries: Rate::new(60, MINUTE),
            max_connections: 4_000,
            clocks: Clocks::default(),
            events_of_organization: None,
            max_stored_bytes: None,
            workers: 2,
            hosts: Hosts::Any,
        }
    }
}

impl From<&Settings> for ApiSettings {
    fn from(settings: &Settings) -> Self {
        Self {
            request_deadline: settings.api.request_deadline,
            max_subscriptions: settings.api.max_subscriptions,
            max_running_replays: settings.replay.max_running,
            requests_of_key: Rate::new(settings.api.requests_per_second_per_key, SECOND)
                .with_burst(settings.api.burst_per_key),
            failed_tries: Rate::new(settings.api.failed_tries_per_minute, MINUTE),
            max_tests_per_minute: settings.api.max_tests_per_minute,
            max_retries_per_minute: settings.api.max_retries_per_minute,
            events_of_organization: settings.limits.event_rate(),
            max_stored_bytes: settings.limits.stored_bytes(),
            max_connections: settings.api.max_connections,
            workers: settings.api.workers,
            hosts: settings.hosts,
            ..Self::default()
        }
    }
}

/// What handlers work with; all workers share it.
#[derive(Clone)]
pub(crate) struct AppState {
    /// The parts of the API.
    pub(crate) api: Arc<Api>,
    /// The requests under way, by key.
    pub(crate) in_flight: InFlight,
    /// How often each key has asked.
    pub(crate) requests: Arc<SharedRates<KeyId>>,
    /// How often each address has come with a wrong key.
    pub(crate) tries: Arc<Tries>,
    /// When each key was used.
    pub(crate) last_use: LastUse,
    /// The test calls lately, by organization.
    pub(crate) test_calls: PerMinute,
    pub(crate) retries: PerMinute,
    /// The events lately, by organization.
    pub(crate) published: Published,
    pub(crate) bodies: ByteRoom,
}

impl AppState {
    /// A service before its first request.
    pub(crate) fn new(api: Api) -> Self {
        Self {
            requests: Arc::new(SharedRates::new(api.settings.requests_of_key)),
            tries: Arc::new(Tries::new(api.settings.failed_tries)),
            last_use: LastUse::default(),
            test_calls: PerMinute::new(api.settings.max_tests_per_minute),
            retries: PerMinute::new(api.settings.max_retries_per_minute),
            published: Published::new(api.settings.events_of_organization),
            api: Arc::new(api),
            in_flight: InFlight::default(),
            bodies: ByteRoom::for_bodies(),
        }
    }
}
