//! The exporter of traces. A thread of the SDK sends spans in batches. The HTTP client needs tokio, so its requests run on
//! the runtime of the process.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use percent_encoding::percent_decode_str;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio::runtime::Handle;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;
use url::Url;

use crate::settings::SecretUrl;
use crate::tls;

const PATH: &str = "/v1/traces";

pub(super) fn provider(
    endpoint: &SecretUrl,
    resource: Resource,
) -> anyhow::Result<SdkTracerProvider> {
    // The client needs a TLS provider also without TLS.
    tls::use_ring();
    let collector = Collector::of(endpoint)?;
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(4))
        .default_headers(collector.credentials)
        .build()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(collector.url)
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

/// Only our own spans. Those of the HTTP client would trace the sending of traces.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && metadata.target().starts_with("hookline")
}

/// The collector's URL, and its credentials as headers.
struct Collector {
    url: String,
    credentials: HeaderMap,
}

impl Collector {
    /// Removes user and password from the URL, because libraries show it in errors.
    fn of(endpoint: &SecretUrl) -> anyhow::Result<Self> {
        let mut url =
            Url::parse(endpoint.expose()).context("cannot parse the URL of the collector")?;
        let mut credentials = HeaderMap::new();
        if !url.username().is_empty() || url.password().is_some() {
            let part = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
            let user = part(url.username());
            let password = part(url.password().unwrap_or_default());
            let basic = BASE64.encode([&user[..], b":", &password[..]].concat());
            let mut value = HeaderValue::try_from(format!("Basic {basic}"))?;
            value.set_sensitive(true);
            credentials.insert(AUTHORIZATION, value);
            let moved = url.set_username("").and(url.set_password(None));
            anyhow::ensure!(moved.is_ok(), "the collector's URL has a user and no host");
        }
        // The setting may omit the path, as OTEL_EXPORTER_OTLP_ENDPOINT does.
        let base = url.path().trim_end_matches('/');
        if !base.ends_with(PATH) {
            let path = format!("{base}{PATH}");
            url.set_path(&path);
        }
        Ok(Self {
            url: url.into(),
            credentials,
        })
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
        // A parameter of the URL may be a token.
        sent.await?
            .map_err(|why| match why.downcast::<reqwest::Error>() {
                Ok(why) => Box::new(why.without_url()) as HttpError,
                Err(why) => why,
            })
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
            let collector = Collector::of(&SecretUrl::new(endpoint)).unwrap();
            assert_eq!(collector.url, "http://h:4318/v1/traces");
            assert!(collector.credentials.is_empty());
        }
        let query = Collector::of(&SecretUrl::new("http://h?a=b")).unwrap();
        assert_eq!(query.url, "http://h/v1/traces?a=b");
    }

    #[test]
    fn a_password_of_the_collector_goes_into_a_header_and_is_not_shown() {
        let endpoint = SecretUrl::new("http://u:hunter2%40ü@h:4318");
        let collector = Collector::of(&endpoint).unwrap();
        assert_eq!(collector.url, "http://h:4318/v1/traces");
        let sent = &collector.credentials[AUTHORIZATION];
        assert_eq!(sent.to_str().unwrap(), "Basic dTpodW50ZXIyQMO8");
        assert_eq!(format!("{sent:?}"), "Sensitive");
    }

    #[tokio::test]
    async fn the_error_of_an_unreachable_collector_does_not_show_its_url() {
        tls::use_ring();
        let client = OnRuntime {
            runtime: Handle::current(),
            http: reqwest::Client::new(),
        };
        let request = Request::post("http://127.0.0.1:1/?token=hunter2");
        let sent = client.send_bytes(request.body(Bytes::new()).unwrap()).await;
        let why = sent.unwrap_err();
        let why = format!("{why} {why:?}");
        assert!(!why.contains("hunter2"), "{why}");
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
