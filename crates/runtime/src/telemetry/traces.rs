//! Spans leave in batches from a thread of the SDK that knows no tokio, while the HTTP client needs
//! it: requests are handed to the process's own runtime.

use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::settings::SecretUrl;
use crate::tls;

const PATH: &str = "/v1/traces";

pub(super) fn provider(
    endpoint: &SecretUrl,
    resource: Resource,
) -> anyhow::Result<SdkTracerProvider> {
    // The client takes the process's TLS provider even where no TLS is spoken.
    tls::use_ring();
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(4))
        .build()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(traces_url(endpoint.expose()))
        .with_http_client(OnRuntime {
            runtime: Handle::current(),
            http,
        })
        .build()?;
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build())
}

pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("hookline"))
        .with_filter(filter_fn(is_ours))
}

/// Only our own spans: those of the HTTP client would make a trace of sending traces.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && metadata.target().starts_with("hookline")
}

/// The collector's address is written without the path, as OTEL_EXPORTER_OTLP_ENDPOINT is.
fn traces_url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    match base.ends_with(PATH) {
        true => base.to_owned(),
        false => format!("{base}{PATH}"),
    }
}

#[derive(Debug)]
struct OnRuntime {
    runtime: Handle,
    http: reqwest::Client,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self
            .runtime
            .spawn(async move { http.send_bytes(request).await });
        sent.await?
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn the_collectors_path_is_added_once() {
        for endpoint in ["http://h:4318", "http://h:4318/", "http://h:4318/v1/traces"] {
            assert_eq!(traces_url(endpoint), "http://h:4318/v1/traces");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_last_spans_are_sent_at_the_end() {
        let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = collector.local_addr().unwrap();
        let endpoint = SecretUrl::new(format!("http://{address}"));
        let provider = provider(&endpoint, Resource::builder_empty().build()).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer(&provider));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("deliver").in_scope(|| {})
        });
        let ending = tokio::task::spawn_blocking(move || provider.shutdown());
        let (mut sent, _) = collector.accept().await.unwrap();
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).contains("deliver") {
            assert_ne!(sent.read_buf(&mut request).await.unwrap(), 0);
        }
        assert!(request.starts_with(b"POST /v1/traces HTTP/1.1\r\n"));
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        sent.write_all(answer).await.unwrap();
        ending.await.unwrap().unwrap();
    }
}
