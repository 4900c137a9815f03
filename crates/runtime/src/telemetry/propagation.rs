//! Trace propagation. A trace crosses a queue as a `traceparent`. Only this file converts it to and from OpenTelemetry.

use hookline_core::trace::TraceParent;
use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Makes `span` a child of a remote span. The span must not have been entered yet.
pub fn continue_trace(span: &Span, parent: TraceParent) {
    let remote = SpanContext::new(
        TraceId::from_bytes(parent.trace_id.to_be_bytes()),
        SpanId::from_bytes(parent.span_id.to_be_bytes()),
        TraceFlags::new(parent.flags),
        true,
        TraceState::NONE,
    );
    // Fails without a collector, because there is no trace then.
    let _untraced = span.set_parent(Context::new().with_remote_span_context(remote));
}

/// The trace of `span`. None without a collector.
pub fn trace_of(span: &Span) -> Option<TraceParent> {
    let context = span.context();
    let current = context.span().span_context().clone();
    current.is_valid().then(|| TraceParent {
        trace_id: u128::from_be_bytes(current.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(current.span_id().to_bytes()),
        flags: current.trace_flags().to_u8(),
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::telemetry::traces;

    const PUBLISHERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_span_continues_a_remote_trace() {
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry().with(traces::layer(&provider));
        tracing::subscriber::with_default(subscriber, || {
            let parent = TraceParent::parse(PUBLISHERS).unwrap();
            let span = tracing::info_span!("deliver");
            continue_trace(&span, parent);
            let ours = trace_of(&span).unwrap();
            assert_eq!(ours.trace_id, parent.trace_id);
            assert_ne!(ours.span_id, parent.span_id);
            assert_eq!(ours.flags, 1);
        });
    }

    #[test]
    fn without_a_collector_there_is_no_trace_and_no_error() {
        let span = tracing::info_span!("deliver");
        continue_trace(&span, TraceParent::parse(PUBLISHERS).unwrap());
        assert_eq!(trace_of(&span), None);
    }
}
