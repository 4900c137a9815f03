//! Logs on standard error, metrics for Prometheus, and traces for an OpenTelemetry collector.

mod logs;
mod metrics;
mod propagation;
mod repeats;
mod traces;

use std::time::{Duration, Instant};

use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::Settings;

use repeats::RepeatLimiter;

pub use metrics::Metrics;
pub use propagation::{continue_trace, trace_of};

#[derive(Debug)]
#[must_use = "`shutdown` sends the last traces"]
pub struct Telemetry {
    metrics: Metrics,
    traces: Option<SdkTracerProvider>,
    repeats: RepeatLimiter,
}

impl Telemetry {
    /// Starts logs, metrics and traces for the whole process.
    ///
    /// # Errors
    /// For a collector that cannot be used, and when telemetry has been started before.
    ///
    /// # Panics
    /// With a collector, outside a tokio runtime.
    pub fn start(service: &'static str, settings: &Settings) -> anyhow::Result<Self> {
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let endpoint = &settings.telemetry.otlp_endpoint;
        let traces = match endpoint.is_set() {
            true => Some(traces::provider(endpoint, resource.clone())?),
            false => None,
        };
        let repeats = RepeatLimiter::default();
        tracing_subscriber::registry()
            .with(logs::layer(&settings.log, repeats.clone())?)
            .with(traces.as_ref().map(traces::layer))
            .try_init()?;
        repeats.start_reporting()?;
        let metrics = Metrics::new(resource)?;
        global::set_meter_provider(metrics.provider());
        Ok(Self {
            metrics,
            traces,
            repeats,
        })
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The text format of Prometheus.
    pub fn render_metrics(&self) -> String {
        self.metrics.render()
    }

    /// Writes the last counts of repeated lines, and sends the last traces within 5 s. It blocks, so it must not run on a
    /// thread of the runtime, and it needs the runtime.
    pub fn shutdown(self) {
        self.repeats.report(Instant::now() + Duration::from_secs(1));
        if let Some(Err(error)) = self.traces.map(|traces| traces.shutdown()) {
            tracing::warn!(error = %error, "cannot send the last traces");
        }
    }
}
