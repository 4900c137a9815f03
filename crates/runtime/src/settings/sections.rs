//! The sections of the settings file. `default.toml` describes each setting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::retry::RetrySchedule;
use hookline_core::target::IpNet;
use serde::Deserialize;

use super::error::SettingsError;
use super::limits::LimitSettings;
use super::secret_url::SecretUrl;
use super::secrets::SecretSettings;
use super::targets::TargetSettings;
use super::validators::{self, ForwardedHeader, LogFormat};
use crate::hosts::Hosts;

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
    /// The host names that the listeners answer to. No setting: `hookline dev` limits it to the loopback address.
    #[serde(skip)]
    pub hosts: Hosts,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Empty where it is not set; see [`StoreSettings::required_url`].
    #[serde(deserialize_with = "validators::postgres_url")]
    pub url: SecretUrl,
    #[serde(deserialize_with = "validators::number::<1, 200, _, _>")]
    pub connections: u32,
    #[serde(
        rename = "wait_ms",
        deserialize_with = "validators::milliseconds::<1, 60_000, _>"
    )]
    pub wait: Duration,
    #[serde(
        rename = "statement_timeout_ms",
        deserialize_with = "validators::milliseconds::<100, 600_000, _>"
    )]
    pub statement_timeout: Duration,
}

impl StoreSettings {
    /// # Errors
    /// [`SettingsError::NotSet`] without a URL.
    pub fn required_url(&self) -> Result<&SecretUrl, SettingsError> {
        self.url
            .required("store.url", "postgres://USER:PASSWORD@HOST/DATABASE")
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerSettings {
    /// Empty where it is not set; see [`BrokerSettings::required_url`].
    #[serde(deserialize_with = "validators::amqp_url")]
    pub url: SecretUrl,
    #[serde(
        rename = "confirm_timeout_ms",
        deserialize_with = "validators::milliseconds::<100, 60_000, _>"
    )]
    pub confirm_timeout: Duration,
}

impl BrokerSettings {
    /// # Errors
    /// [`SettingsError::NotSet`] without a URL.
    pub fn required_url(&self) -> Result<&SecretUrl, SettingsError> {
        self.url
            .required("broker.url", "amqp://USER:PASSWORD@HOST/VHOST")
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSettings {
    #[serde(deserialize_with = "validators::listen_address")]
    pub listen: SocketAddr,
    #[serde(
        rename = "request_deadline_ms",
        deserialize_with = "validators::milliseconds::<100, 60_000, _>"
    )]
    pub request_deadline: Duration,
    #[serde(deserialize_with = "validators::number::<1, 1_000_000, _, _>")]
    pub max_subscriptions: u32,
    #[serde(deserialize_with = "validators::number::<1, 1_000_000, _, _>")]
    pub requests_per_second_per_key: u32,
    #[serde(deserialize_with = "validators::number::<1, 1_000_000, _, _>")]
    pub burst_per_key: u32,
    #[serde(deserialize_with = "validators::number::<1, 1_000_000, _, _>")]
    pub failed_tries_per_minute: u32,
    #[serde(deserialize_with = "validators::networks")]
    pub trusted_proxies: Arc<[IpNet]>,
    #[serde(deserialize_with = "validators::forwarded_header")]
    pub forwarded_header: ForwardedHeader,
    #[serde(deserialize_with = "validators::number::<1, 100_000, _, _>")]
    pub max_tests_per_minute: u32,
    #[serde(deserialize_with = "validators::number::<1, 100_000, _, _>")]
    pub max_retries_per_minute: u32,
    #[serde(deserialize_with = "validators::number::<1, 100_000, _, _>")]
    pub max_streams_per_organization: u32,
    #[serde(deserialize_with = "validators::number::<1, 1_000_000, _, _>")]
    pub max_connections: usize,
    #[serde(deserialize_with = "validators::number::<1, 256, _, _>")]
    pub workers: usize,
    #[serde(deserialize_with = "validators::origins")]
    pub cors_origins: Arc<[String]>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    #[serde(deserialize_with = "validators::listen_address")]
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestSettings {
    #[serde(deserialize_with = "validators::number::<1, 1_000, _, _>")]
    pub batch: usize,
    #[serde(deserialize_with = "validators::number::<1, 65_535, _, _>")]
    pub prefetch: u16,
    #[serde(deserialize_with = "validators::number::<1, 100_000_000, _, _>")]
    pub max_waiting: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatcherSettings {
    #[serde(deserialize_with = "validators::number::<1, 10_000, _, _>")]
    pub slots: usize,
    #[serde(deserialize_with = "validators::number::<1, 65_535, _, _>")]
    pub prefetch: u16,
    #[serde(
        rename = "deadline_seconds",
        deserialize_with = "validators::seconds::<1, 60, _>"
    )]
    pub deadline: Duration,
    #[serde(deserialize_with = "validators::number::<1, 1_000_000, _, _>")]
    pub breaker_failures: u32,
    #[serde(deserialize_with = "validators::number::<1, 4_096, _, _>")]
    pub body_cache_mib: u64,
    /// Zero means never.
    #[serde(
        rename = "failing_after_seconds",
        deserialize_with = "validators::seconds::<0, 2_592_000, _>"
    )]
    pub failing_after: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoisonSettings {
    #[serde(deserialize_with = "validators::number::<3, 20, _, _>")]
    pub give_up_after: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrySettings {
    #[serde(
        rename = "schedule_seconds",
        deserialize_with = "validators::retry_schedule"
    )]
    pub schedule: RetrySchedule,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySettings {
    #[serde(deserialize_with = "validators::number::<1, 2_000, _, _>")]
    pub per_second: u32,
    #[serde(deserialize_with = "validators::number::<1, 1_000, _, _>")]
    pub max_running: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSettings {
    #[serde(deserialize_with = "validators::number::<1, 3_650, _, _>")]
    pub days: u32,
}

impl RetentionSettings {
    pub fn age(&self) -> Duration {
        Duration::from_secs(u64::from(self.days) * 24 * 60 * 60)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    #[serde(deserialize_with = "validators::log_format")]
    pub format: LogFormat,
    /// Directives that `tracing_subscriber::EnvFilter` accepts.
    #[serde(deserialize_with = "validators::log_level")]
    pub level: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Empty where no traces are sent.
    #[serde(deserialize_with = "validators::http_url")]
    pub otlp_endpoint: SecretUrl,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartSettings {
    #[serde(
        rename = "wait_for_peers_seconds",
        deserialize_with = "validators::seconds::<0, 3_600, _>"
    )]
    pub wait_for_peers: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopSettings {
    #[serde(
        rename = "grace_seconds",
        deserialize_with = "validators::seconds::<1, 3_600, _>"
    )]
    pub grace: Duration,
}
