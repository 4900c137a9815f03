//! One signed request, and what came of it.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hookline_core::event_type::EventType;
use hookline_core::ids::DeliveryId;
use hookline_core::outcome::{
    Answer, Failure, FailureKind, MAX_RESPONSE_BYTES, Outcome, printable,
};
use hookline_core::retry::retry_after;
use hookline_core::signing::Message;
use hookline_core::target::{TargetRules, TargetUrl};
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_store::Credentials;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, Url, redirect};
use tokio::time::{Instant, timeout_at};

use crate::Policy;
use crate::names::Names;
use crate::resolver::{AllowedAddresses, NotAllowed};

const USER_AGENT: &str = concat!("Hookline/", env!("CARGO_PKG_VERSION"));

/// How long an idle connection to a receiver is kept. As many are kept as there were requests at
/// once: fewer would be made anew under load, which costs both sides more than the requests.
const IDLE: Duration = Duration::from_secs(60);

/// The most headers of an answer. All of them together may have 408 KiB, as hyper has it.
const MAX_HEADERS: usize = 100;

/// What a request says.
#[derive(Debug)]
pub struct Request<'a> {
    /// The delivery, which receivers see as `webhook-id`.
    pub delivery: DeliveryId,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// What happened.
    pub event_type: EventType,
    /// Where it goes.
    pub url: &'a TargetUrl,
    /// What signs it and goes with it.
    pub credentials: &'a Credentials,
    /// The span that the receiver continues.
    pub trace: TraceParent,
    /// When the attempt begins.
    pub now: Timestamp,
    /// The bytes that are signed and sent.
    pub body: Bytes,
}

/// Makes requests under the rules for targets.
#[derive(Debug, Clone)]
pub struct Requester {
    client: Client,
    rules: TargetRules,
    deadline: Duration,
}

impl Requester {
    /// A requester under the rules of `policy`. It asks for no compression and undoes none, speaks
    /// HTTP/1.1 alone, and has neither redirects nor a proxy.
    ///
    /// # Errors
    /// When the certificates cannot be read, or TLS cannot be set up.
    pub fn new(policy: &Policy) -> anyhow::Result<Self> {
        let deadline = policy.deadline;
        let rules = policy.rules.clone();
        let names = Names::new(policy.name_servers.clone(), deadline)
            .context("cannot set up the resolution of names")?;
        let mut client = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .http1_max_headers(MAX_HEADERS)
            .dns_resolver(Arc::new(AllowedAddresses::new(rules.clone(), names)))
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(policy.slots);
        if let Some(file) = &policy.extra_ca_file {
            client = client.tls_certs_merge(certificates(file)?);
        }
        Ok(Self {
            client: client.build().context("cannot set up TLS")?,
            rules,
            deadline,
        })
    }

    /// Sends the request and reads as much of the answer as counts.
    pub async fn send(&self, request: Request<'_>) -> Outcome {
        let until = Instant::now() + self.deadline;
        let Ok(url) = Url::parse(request.url.as_str()) else {
            return failed(FailureKind::BlockedAddress, "the URL cannot be called");
        };
        if let Err(why) = self.rules.judge(&url) {
            return failed(FailureKind::BlockedAddress, why.to_string());
        }
        let headers = headers(&request);
        let sending = self
            .client
            .post(url)
            .headers(headers)
            .body(request.body)
            .send();
        match timeout_at(until, sending).await {
            Err(_) => self.timed_out(None),
            Ok(Err(error)) => Outcome::Failed(failure(&error)),
            Ok(Ok(response)) => self.answer(response, until).await,
        }
    }

    async fn answer(&self, mut response: Response, until: Instant) -> Outcome {
        let status = response.status().as_u16();
        let header = |name: HeaderName| response.headers().get(name)?.to_str().ok();
        let retry_after = header(RETRY_AFTER).and_then(|value| retry_after(value, header(DATE)));
        let mut body = Vec::new();
        while body.len() < MAX_RESPONSE_BYTES {
            match timeout_at(until, response.chunk()).await {
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                Ok(Ok(None)) => break,
                Err(_) => return self.timed_out(Some(status)),
                Ok(Err(_)) => {
                    let message = "the answer broke off".to_owned();
                    return Outcome::Failed(Failure {
                        kind: FailureKind::Response,
                        message,
                        status: Some(status),
                    });
                }
            }
        }
        body.truncate(MAX_RESPONSE_BYTES);
        Outcome::Answered(Answer {
            status,
            body: printable(&body),
            retry_after,
        })
    }

    fn timed_out(&self, status: Option<u16>) -> Outcome {
        let message = format!("no whole answer within {} s", self.deadline.as_secs());
        Outcome::Failed(Failure {
            kind: FailureKind::Timeout,
            message,
            status,
        })
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let shown = file.display();
    let pem = std::fs::read(file)
        .with_context(|| format!("setting targets.extra_ca_file: {shown} cannot be read"))?;
    let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    anyhow::ensure!(
        !certificates.is_empty(),
        "setting targets.extra_ca_file: {shown} must hold certificates as PEM"
    );
    Ok(certificates)
}

fn headers(request: &Request<'_>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    // Both were checked when the subscription was made; what is stored and cannot be sent is left out.
    for (name, value) in request.credentials.headers.iter() {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    let mut ours = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let id = request.delivery.to_string();
    ours("webhook-id", &id);
    ours("webhook-timestamp", &request.now.unix_seconds().to_string());
    ours("x-webhook-event", request.event_type.as_str());
    ours("x-webhook-attempt", &request.attempt.to_string());
    ours("traceparent", &request.trace.to_string());
    if let Some(secrets) = &request.credentials.secrets {
        let signatures = secrets.sign(Message {
            id: &id,
            sent: request.now,
            body: &request.body,
        });
        ours("x-webhook-signature", &signatures.plain);
        if let Some(previous) = &signatures.plain_previous {
            ours("x-webhook-signature-previous", previous);
        }
        ours("webhook-signature", &signatures.standard);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

fn failed(kind: FailureKind, message: impl Into<String>) -> Outcome {
    Outcome::Failed(Failure {
        kind,
        message: message.into(),
        status: None,
    })
}

/// Says what went wrong without saying where: an address in an error would map our network.
fn failure(error: &reqwest::Error) -> Failure {
    let (kind, message) = if chain(error).any(|cause| cause.is::<NotAllowed>()) {
        (FailureKind::Dns, NotAllowed.to_string())
    } else if let Some(tls) = chain(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        (FailureKind::Tls, format!("no TLS session: {tls}"))
    } else if error.is_timeout() {
        (FailureKind::Timeout, "no connection in time".to_owned())
    } else if error.is_connect() {
        no_connection(error)
    } else {
        (
            FailureKind::Response,
            "the receiver closed the connection or its answer is no HTTP".to_owned(),
        )
    };
    Failure {
        kind,
        message,
        status: None,
    }
}

/// A receiver that hangs up before a request could be made has not spoken TLS. In the plain there
/// is nothing to be said until then, and a reset that fast is no connection.
fn no_connection(error: &reqwest::Error) -> (FailureKind, String) {
    let is = |kind: io::ErrorKind| {
        chain(error)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| cause.kind() == kind)
    };
    let encrypted = error.url().is_none_or(|url| url.scheme() == "https");
    let (kind, message) = if is(io::ErrorKind::ConnectionRefused) {
        (FailureKind::Connect, "the connection was refused")
    } else if encrypted && (is(io::ErrorKind::UnexpectedEof) || is(io::ErrorKind::ConnectionReset))
    {
        (FailureKind::Tls, "no TLS session: the receiver hung up")
    } else {
        (FailureKind::Connect, "no connection")
    };
    (kind, message.to_owned())
}

/// The error and all that is inside it; an `io::Error` does not name what it wraps as its source.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| {
        let wrapped = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner),
            None => cause.source(),
        }
    })
}
