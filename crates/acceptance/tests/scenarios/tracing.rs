//! Tracing: a collector sees one trace from the publisher through our services to the receiver.

use anyhow::Context as _;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_core::trace::TraceParent;
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use prost::Message as _;

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![one_trace_covers_publisher_ingest_attempts_and_receiver]
}

/// As much of OTLP's `ExportTraceServiceRequest` as counts here.
#[derive(prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
}

#[derive(prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}

#[derive(prost::Message)]
struct Scope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
}

/// The spans of a trace that a collector has so far.
fn spans(collector: &Receiver, trace: u128) -> anyhow::Result<Vec<Span>> {
    let mut spans = Vec::new();
    for request in collector.received() {
        let export = Export::decode(&*request.body)?;
        let scopes = export.resources.into_iter().flat_map(|one| one.scopes);
        spans.extend(scopes.flat_map(|scope| scope.spans));
    }
    spans.retain(|span| span.trace == trace.to_be_bytes());
    Ok(spans)
}

async fn one_trace_covers_publisher_ingest_attempts_and_receiver(mode: Mode) -> anyhow::Result<()> {
    let collector = Receiver::healthy()?;
    let endpoint = collector.url("");
    let settings = [
        ("HOOKLINE__TELEMETRY__OTLP_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let deployment = Deployment::start_with(mode, &settings).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::answering(vec![Reply::status(500), Reply::status(200)])?;
    tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let publisher = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let event = tenant.event("workflow.completed").to_string();
    tenant.publish_bytes(&event, Some(publisher)).await?;
    let publisher = TraceParent::parse(publisher).context("a good parent")?;

    let received = receiver.wait_for(2).await?;
    let spans = until("three spans", async || {
        let spans = spans(&collector, publisher.trace_id)?;
        Ok((spans.len() >= 3).then_some(spans))
    })
    .await?;
    let of = |parent: &[u8], name: &str| -> Vec<Vec<u8>> {
        let mut of = spans.clone();
        of.retain(|span| span.parent == parent && span.name == name);
        of.into_iter().map(|span| span.id).collect()
    };
    let intake = of(&publisher.span_id.to_be_bytes(), "intake");
    anyhow::ensure!(intake.len() == 1, "{spans:#?}");
    let attempts = of(&intake[0], "attempt");
    anyhow::ensure!(attempts.len() == 2, "{spans:#?}");
    for request in received {
        let seen = request.header("traceparent")?;
        let seen = TraceParent::parse(seen).context("no traceparent")?;
        anyhow::ensure!(
            seen.trace_id == publisher.trace_id
                && attempts.contains(&seen.span_id.to_be_bytes().to_vec()),
            "{seen} is none of {attempts:?}"
        );
    }
    deployment.end().await
}
