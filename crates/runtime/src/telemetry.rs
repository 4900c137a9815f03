//! Logs go to standard error, metrics wait to be fetched, and traces are sent to a collector where
//! one is set.

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

use repeats::Repeats;

pub use metrics::Metrics;
pub use propagation::{continue_trace, trace_of};

/// The telemetry of a process, which has it once.
#[derive(Debug)]
#[must_use = "the last traces are sent by `shutdown`"]
pub struct Telemetry {
    metrics: Metrics,
    traces: Option<SdkTracerProvider>,
    repeats: Repeats,
}

impl Telemetry {
    /// Starts logs, metrics and traces for the whole process.
    ///
    /// # Errors
    /// When a collector is set that cannot be used, or when the process has its telemetry already.
    ///
    /// # Panics
    /// Outside a tokio runtime, where a collector is set.
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
        let repeats = Repeats::default();
        tracing_subscriber::registry()
            .with(logs::layer(&settings.log, repeats.clone())?)
            .with(traces.as_ref().map(traces::layer))
            .try_init()?;
        repeats.keep_telling()?;
        let metrics = Metrics::new(resource)?;
        global::set_meter_provider(metrics.provider());
        Ok(Self {
            metrics,
            traces,
            repeats,
        })
    }

    /// The metrics; clones show the same.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// All metrics in the text format of Prometheus.
    pub fn render_metrics(&self) -> String {
        self.metrics.render()
    }

    /// Writes the last counts of repeated lines, and sends what is left, for 5 s at most. Waits, so it must not be called on a runtime's thread,
    /// and the runtime must still be there.
    pub fn shutdown(self) {
        self.repeats.tell(Instant::now() + Duration::from_secs(1));
        if let Some(Err(error)) = self.traces.map(|traces| traces.shutdown()) {
            tracing::warn!(error = %error, "the last traces are lost");
        }
    }
}
