use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, SdkMeterProvider, Stream,
};
use prometheus::{Registry, TextEncoder};

/// Bucket boundaries in seconds, up to twice the default deadline of a request to a receiver. The defaults of
/// OpenTelemetry are for milliseconds.
const SECONDS: [f64; 14] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Clones share the metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

impl Metrics {
    pub(crate) fn new(resource: Resource) -> Result<Self, OTelSdkError> {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()?;
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(reader)
            .with_view(seconds)
            .build();
        Ok(Self { registry, provider })
    }

    /// Creates instruments. [`super::Telemetry::start`] makes it the global provider.
    pub fn provider(&self) -> SdkMeterProvider {
        self.provider.clone()
    }

    /// Registers a gauge. Each scrape calls `value`, which must not wait.
    pub fn gauge(
        &self,
        name: &'static str,
        description: &'static str,
        value: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let meter = self.provider.meter("hookline");
        meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |gauge| gauge.observe(value(), &[]))
            .build();
    }

    /// The text format of Prometheus.
    pub fn render(&self) -> String {
        let rendered = TextEncoder::new().encode_to_string(&self.registry.gather());
        rendered.unwrap_or_else(|error| {
            tracing::warn!(error = %error, "cannot render the metrics");
            String::new()
        })
    }
}

fn seconds(instrument: &Instrument) -> Option<Stream> {
    let counts_seconds = instrument.kind() == InstrumentKind::Histogram && instrument.unit() == "s";
    let stream = Stream::builder().with_aggregation(Aggregation::ExplicitBucketHistogram {
        boundaries: SECONDS.to_vec(),
        record_min_max: false,
    });
    counts_seconds.then(|| stream.build().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_of_seconds_has_buckets_in_seconds() {
        let metrics = Metrics::new(Resource::builder_empty().build()).unwrap();
        let meter = metrics.provider().meter("test");
        let waits = meter.f64_histogram("hookline.wait").with_unit("s").build();
        waits.record(0.003, &[]);
        let events = meter.u64_counter("hookline.events").build();
        events.add(2, &[]);
        metrics.gauge("hookline.state", "a state", || 7);
        let text = metrics.render();
        for line in [
            r#"hookline_wait_seconds_bucket{le="0.002"} 0"#,
            r#"hookline_wait_seconds_bucket{le="0.005"} 1"#,
            r#"hookline_wait_seconds_bucket{le="30"} 1"#,
            "hookline_wait_seconds_count 1",
            "hookline_events_total 2",
            "hookline_state 7",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}
