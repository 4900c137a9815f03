//! Settings are read once, at the start, and a bad one stops it: a typo that is passed over shows
//! itself weeks later as a limit that was never there.
//!
//! The commented default file is compiled in and is the schema, too: it has every setting, so what
//! it lacks is unknown, and its types say how an environment variable is read.

mod allowed;
mod key_file;
mod known;
mod limits;
mod load;
mod refused;
mod secret_url;
mod secrets;
mod server_url;
mod targets;
mod warnings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::retry::RetrySchedule;
use hookline_core::target::IpNet;
use serde::Deserialize;

use crate::hosts::Hosts;

pub use key_file::{read_key_file, warn_of_key_file};
pub use limits::LimitSettings;
pub use refused::{Refused, SettingsError, Why};
pub use secret_url::SecretUrl;
pub use secrets::{GivenKeys, SecretSettings};
pub use targets::TargetSettings;

/// All settings, by section of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub store: StoreSettings,
    pub broker: BrokerSettings,
    pub secrets: SecretSettings,
    pub api: ApiSettings,
    pub admin: AdminSettings,
    pub limits: LimitSettings,
    pub ingest: IngestSettings,
    pub dispatcher: DispatcherSettings,
    pub poison: PoisonSettings,
    pub retry: RetrySettings,
    pub replay: ReplaySettings,
    pub targets: TargetSettings,
    pub retention: RetentionSettings,
    pub log: LogSettings,
    pub telemetry: TelemetrySettings,
    pub start: StartSettings,
    pub stop: StopSettings,
    /// Which names the listeners answer to; no setting of the file.
    #[serde(skip)]
    pub hosts: Hosts,
}

/// `[store]`: the database of the three services.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Empty where it was not set; see [`StoreSettings::required_url`].
    #[serde(deserialize_with = "allowed::postgres_url")]
    pub url: SecretUrl,
    /// Connections that the process holds at most.
    #[serde(deserialize_with = "allowed::number::<1, 200, _, _>")]
    pub connections: u32,
    /// How long somebody waits for a free connection.
    #[serde(
        rename = "wait_ms",
        deserialize_with = "allowed::milliseconds::<1, 60_000, _>"
    )]
    pub wait: Duration,
    /// How long one statement may take.
    #[serde(
        rename = "statement_timeout_ms",
        deserialize_with = "allowed::milliseconds::<100, 600_000, _>"
    )]
    pub statement_timeout: Duration,
}

impl StoreSettings {
    /// The URL, for a service that cannot do without.
    ///
    /// # Errors
    /// [`SettingsError::NotSet`] where there is none.
    pub fn required_url(&self) -> Result<&SecretUrl, SettingsError> {
        self.url
            .required("store.url", "postgres://USER:PASSWORD@HOST/DATABASE")
    }
}

/// `[broker]`: the message broker of the three services.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerSettings {
    /// Empty where it was not set; see [`BrokerSettings::required_url`].
    #[serde(deserialize_with = "allowed::amqp_url")]
    pub url: SecretUrl,
    /// How long a message may take to be confirmed.
    #[serde(
        rename = "confirm_timeout_ms",
        deserialize_with = "allowed::milliseconds::<100, 60_000, _>"
    )]
    pub confirm_timeout: Duration,
}

impl BrokerSettings {
    /// The URL, for a service that cannot do without.
    ///
    /// # Errors
    /// [`SettingsError::NotSet`] where there is none.
    pub fn required_url(&self) -> Result<&SecretUrl, SettingsError> {
        self.url
            .required("broker.url", "amqp://USER:PASSWORD@HOST/VHOST")
    }
}

/// `[api]`: the REST API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSettings {
    /// Where it listens.
    #[serde(deserialize_with = "allowed::listen_address")]
    pub listen: SocketAddr,
    /// Every request is answered within this time.
    #[serde(
        rename = "request_deadline_ms",
        deserialize_with = "allowed::milliseconds::<100, 60_000, _>"
    )]
    pub request_deadline: Duration,
    /// Subscriptions that one organization may have.
    #[serde(deserialize_with = "allowed::number::<1, 1_000_000, _, _>")]
    pub max_subscriptions: u32,
    /// Requests that one key may make in a second.
    #[serde(deserialize_with = "allowed::number::<1, 1_000_000, _, _>")]
    pub requests_per_second_per_key: u32,
    /// Requests that it may make at once when it was quiet.
    #[serde(deserialize_with = "allowed::number::<1, 1_000_000, _, _>")]
    pub burst_per_key: u32,
    /// Wrong keys that one address may come with in a minute.
    #[serde(deserialize_with = "allowed::number::<1, 1_000_000, _, _>")]
    pub failed_tries_per_minute: u32,
    /// Networks of trusted proxies: their forwarded header names the caller.
    #[serde(deserialize_with = "allowed::networks")]
    pub trusted_proxies: Arc<[IpNet]>,
    /// The header that they write.
    #[serde(deserialize_with = "allowed::forwarded_header")]
    pub forwarded_header: ForwardedHeader,
    /// Test events that one organization may send within a minute.
    #[serde(deserialize_with = "allowed::number::<1, 100_000, _, _>")]
    pub max_tests_per_minute: u32,
    /// Deliveries that one organization may retry by hand within a minute.
    #[serde(deserialize_with = "allowed::number::<1, 100_000, _, _>")]
    pub max_retries_per_minute: u32,
    /// Connections at the same time; more wait until one of them ends.
    #[serde(deserialize_with = "allowed::number::<1, 1_000_000, _, _>")]
    pub max_connections: usize,
    /// Threads that serve requests.
    #[serde(deserialize_with = "allowed::number::<1, 256, _, _>")]
    pub workers: usize,
}

/// The header in which a trusted proxy names the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// The addresses alone.
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// `[admin]`: health, readiness and metrics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Where it listens.
    #[serde(deserialize_with = "allowed::listen_address")]
    pub listen: SocketAddr,
}

/// `[ingest]`: from events to deliveries.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestSettings {
    /// Events in one transaction at most.
    #[serde(deserialize_with = "allowed::number::<1, 1_000, _, _>")]
    pub batch: usize,
    /// Events that the broker hands out ahead.
    #[serde(deserialize_with = "allowed::number::<1, 65_535, _, _>")]
    pub prefetch: u16,
    /// No more events are taken while this many attempts wait.
    #[serde(deserialize_with = "allowed::number::<1, 100_000_000, _, _>")]
    pub max_waiting: u64,
}

/// `[dispatcher]`: requests to receivers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatcherSettings {
    /// Requests in flight at once.
    #[serde(deserialize_with = "allowed::number::<1, 10_000, _, _>")]
    pub slots: usize,
    /// Attempts that the broker hands out ahead.
    #[serde(deserialize_with = "allowed::number::<1, 65_535, _, _>")]
    pub prefetch: u16,
    /// How long a receiver may take, the connection included.
    #[serde(
        rename = "deadline_seconds",
        deserialize_with = "allowed::seconds::<1, 60, _>"
    )]
    pub deadline: Duration,
    /// Failures in a row after which a receiver is left alone for a while.
    #[serde(deserialize_with = "allowed::number::<1, 1_000_000, _, _>")]
    pub breaker_failures: u32,
    /// How much memory the bodies of recent events may take.
    #[serde(deserialize_with = "allowed::number::<1, 4_096, _, _>")]
    pub body_cache_mib: u64,
    /// How long a receiver may take nothing before its subscription is switched off; 0: for ever.
    #[serde(
        rename = "failing_after_seconds",
        deserialize_with = "allowed::seconds::<0, 2_592_000, _>"
    )]
    pub failing_after: Duration,
}

/// `[poison]`: messages that may end a process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoisonSettings {
    /// How often a message may be charged with the end of a process.
    #[serde(deserialize_with = "allowed::number::<3, 20, _, _>")]
    pub give_up_after: u32,
}

/// `[retry]`: when a failed delivery is tried again.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrySettings {
    /// The waits between attempts.
    #[serde(
        rename = "schedule_seconds",
        deserialize_with = "allowed::retry_schedule"
    )]
    pub schedule: RetrySchedule,
}

/// `[replay]`: when finished deliveries are started again.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySettings {
    /// Deliveries of one replay in a second.
    #[serde(deserialize_with = "allowed::number::<1, 2_000, _, _>")]
    pub per_second: u32,
    /// Replays that one organization may have running.
    #[serde(deserialize_with = "allowed::number::<1, 1_000, _, _>")]
    pub max_running: u32,
}

/// `[retention]`: how long things are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSettings {
    /// Days that events, deliveries and logs are kept.
    #[serde(deserialize_with = "allowed::number::<1, 3_650, _, _>")]
    pub days: u32,
}

impl RetentionSettings {
    /// The days as a duration.
    pub fn age(&self) -> Duration {
        Duration::from_secs(u64::from(self.days) * 24 * 60 * 60)
    }
}

/// `[log]`: what is written to standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// How.
    #[serde(deserialize_with = "allowed::log_format")]
    pub format: LogFormat,
    /// How much: directives of `tracing_subscriber::EnvFilter`, tried when they were read.
    #[serde(deserialize_with = "allowed::log_level")]
    pub level: String,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// `[telemetry]`: where traces go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The collector; empty where none was set.
    #[serde(deserialize_with = "allowed::http_url")]
    pub otlp_endpoint: SecretUrl,
}

/// `[start]`: how a service starts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartSettings {
    /// How long the database and the broker are waited for.
    #[serde(
        rename = "wait_for_peers_seconds",
        deserialize_with = "allowed::seconds::<0, 3_600, _>"
    )]
    pub wait_for_peers: Duration,
}

/// `[stop]`: how a process stops.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopSettings {
    /// How long it may take.
    #[serde(
        rename = "grace_seconds",
        deserialize_with = "allowed::seconds::<1, 3_600, _>"
    )]
    pub grace: Duration,
}
