//! The configuration of the API.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use hookline_core::rate_limit::Rate;
use hookline_runtime::hosts::Hosts;
use hookline_runtime::http::Timeouts;
use hookline_runtime::settings::{ApiSettings, Settings};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Limits and time limits. A request beyond a limit gets 429, unless a field says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiConfig {
    /// The time until a request gets 503.
    pub request_deadline: Duration,
    /// Subscriptions of an organization. One more gets 422.
    pub max_subscriptions: u32,
    /// Test events of an organization.
    pub max_tests_per_minute: u32,
    /// Manual retries of an organization.
    pub max_retries_per_minute: u32,
    /// Requests of an API key at the same time.
    pub max_requests_per_key: u32,
    /// Live streams of an organization.
    pub max_streams_per_organization: u32,
    /// Running replays of an organization. One more gets 409.
    pub max_running_replays: u32,
    /// The retention of events.
    pub retention: Duration,
    /// Requests of an API key.
    pub key_request_rate: Rate,
    /// Wrong keys from one address. Valid keys from it are not affected.
    pub failed_auth_rate: Rate,
    /// Events that an organization publishes over HTTP; None without a limit.
    pub event_rate: Option<Rate>,
    /// Stored bytes of an organization's events; None without a limit.
    pub max_stored_bytes: Option<u64>,
    /// For one more, the server closes the connection that has been idle longest without a valid key.
    pub max_connections: usize,
    pub timeouts: Timeouts,
    /// Threads that serve requests.
    pub workers: usize,
    /// The names in `Host` that are served; others get 421.
    pub hosts: Hosts,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            request_deadline: Duration::from_secs(5),
            max_subscriptions: 1_000,
            max_tests_per_minute: 60,
            max_retries_per_minute: 600,
            max_requests_per_key: 256,
            max_streams_per_organization: 100,
            max_running_replays: 5,
            retention: 30 * 24 * 60 * MINUTE,
            key_request_rate: Rate::new(5_000, SECOND).with_burst(10_000),
            failed_auth_rate: Rate::new(60, MINUTE),
            max_connections: 4_000,
            timeouts: Timeouts::default(),
            event_rate: None,
            max_stored_bytes: None,
            workers: 2,
            hosts: Hosts::Any,
        }
    }
}

/// The origins of pages that may call the API; none by default.
#[derive(Debug, Clone, Default)]
pub struct CorsOrigins(Arc<[String]>);

impl From<&ApiSettings> for CorsOrigins {
    fn from(settings: &ApiSettings) -> Self {
        Self(settings.cors_origins.clone())
    }
}

impl CorsOrigins {
    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    pub fn new(origins: impl IntoIterator<Item = String>) -> Self {
        Self(origins.into_iter().collect())
    }

    /// The origin of the request, if it is an allowed one.
    pub(crate) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut all = headers.get_all(header::ORIGIN);
        let (Some(origin), None) = (all.next(), all.next()) else {
            return None;
        };
        let known = |known: &String| known.as_bytes() == origin.as_bytes();
        self.0.iter().any(known).then(|| origin.clone())
    }
}

impl From<&Settings> for ApiConfig {
    fn from(settings: &Settings) -> Self {
        Self {
            request_deadline: settings.api.request_deadline,
            max_subscriptions: settings.api.max_subscriptions,
            max_running_replays: settings.replay.max_running,
            retention: settings.retention.age(),
            key_request_rate: Rate::new(settings.api.requests_per_second_per_key, SECOND)
                .with_burst(settings.api.burst_per_key),
            failed_auth_rate: Rate::new(settings.api.failed_tries_per_minute, MINUTE),
            max_tests_per_minute: settings.api.max_tests_per_minute,
            max_retries_per_minute: settings.api.max_retries_per_minute,
            max_streams_per_organization: settings.api.max_streams_per_organization,
            event_rate: settings.limits.event_rate(),
            max_stored_bytes: settings.limits.stored_bytes(),
            max_connections: settings.api.max_connections,
            workers: settings.api.workers,
            hosts: settings.hosts,
            ..Self::default()
        }
    }
}
