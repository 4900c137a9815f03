//! One signed request, and its outcome.

mod failure;
mod location;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hookline_core::event_type::EventType;
use hookline_core::ids::DeliveryId;
use hookline_core::outcome::{
    AttemptOutcome, FailureKind, MAX_RESPONSE_BYTES, ReceiverResponse, RequestFailure, printable,
};
use hookline_core::retry::retry_after;
use hookline_core::signing::SignatureInput;
use hookline_core::target::{TargetRules, TargetUrl};
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_store::Credentials;
use http::header::{
    ACCEPT, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use http::{Method, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::context::Policy;
use crate::http::client::Client;
use crate::http::dns::DnsResolver;
use crate::http::ssrf_resolver::AllowedAddresses;

/// The most interim responses before a response.
const MAX_INTERIM: usize = 32;

const AGENT: &str = concat!("Hookline/", env!("CARGO_PKG_VERSION"));

/// The content of a request.
#[derive(Debug)]
pub(crate) struct WebhookRequest<'a> {
    /// Receivers see it as `webhook-id`.
    pub delivery: DeliveryId,
    /// From 1.
    pub attempt: u32,
    pub event_type: EventType,
    pub url: &'a TargetUrl,
    /// The secrets that sign the request, and its further headers.
    pub credentials: &'a Credentials,
    /// The span that the receiver continues.
    pub trace: TraceParent,
    /// The begin of the attempt, in true time.
    pub now: Timestamp,
    /// The bytes that are signed and sent.
    pub body: Bytes,
}

/// Makes requests under the rules for targets.
#[derive(Debug, Clone)]
pub(crate) struct Requester {
    client: Client,
    rules: TargetRules,
    deadline: Duration,
}

impl Requester {
    /// A requester under the rules of `policy`.
    ///
    /// # Errors
    /// When the certificates cannot be read, or TLS cannot be set up.
    pub(crate) fn new(policy: &Policy) -> anyhow::Result<Self> {
        let deadline = policy.deadline;
        let rules = policy.rules.clone();
        let resolver = DnsResolver::new(policy.name_servers.clone(), deadline)
            .context("cannot set up the resolution of names")?;
        let addresses = AllowedAddresses::new(rules.clone(), resolver);
        Ok(Self {
            client: Client::new(addresses, policy)?,
            rules,
            deadline,
        })
    }

    /// Sends the request and reads the part of the response that counts.
    pub(crate) async fn send(&self, request: WebhookRequest<'_>) -> AttemptOutcome {
        let until = Instant::now() + self.deadline;
        let url = Url::parse(request.url.as_str()).ok();
        let target = url.and_then(|url| Some((Uri::try_from(url.as_str()).ok()?, url)));
        let Some((uri, url)) = target else {
            return failed(FailureKind::BlockedAddress, "the URL cannot be called");
        };
        if let Err(why) = self.rules.check(&url) {
            return failed(FailureKind::BlockedAddress, why.to_string());
        }
        let headers = headers(&request);
        let mut message = http::Request::new(Full::new(request.body));
        *message.method_mut() = Method::POST;
        *message.uri_mut() = uri;
        *message.headers_mut() = headers;
        let too_many_interim = too_many_interim(&mut message);
        let sending = tokio::select! {
            biased;
            () = too_many_interim.cancelled() => None,
            sent = timeout_at(until, self.client.send(message)) => Some(sent),
        };
        // All of them may come together with a response.
        let Some(sent) = sending.filter(|_| !too_many_interim.is_cancelled()) else {
            let message = format!("more than {MAX_INTERIM} interim answers (1xx)");
            return failed(FailureKind::Response, message);
        };
        match sent {
            Err(_) => self.timed_out(None),
            Ok(Err(error)) => AttemptOutcome::Failed(failure::of(&error)),
            Ok(Ok(response)) => self.read_response(response, &url, until).await,
        }
    }

    async fn read_response(
        &self,
        response: Response<Incoming>,
        url: &Url,
        until: Instant,
    ) -> AttemptOutcome {
        let (head, mut stream) = response.into_parts();
        let status = head.status.as_u16();
        let header = |name: HeaderName| head.headers.get(name)?.to_str().ok();
        let received_at = hookline_clock::now();
        let retry_after =
            header(RETRY_AFTER).and_then(|value| retry_after(value, header(DATE), received_at));
        let location = location::shown(&head.headers, url);
        let mut body = Vec::new();
        while body.len() < MAX_RESPONSE_BYTES {
            match timeout_at(until, stream.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Some(chunk) = frame.data_ref() {
                        body.extend_from_slice(chunk);
                    }
                }
                Ok(None) => break,
                Err(_) => return self.timed_out(Some(status)),
                Ok(Some(Err(error))) => {
                    return AttemptOutcome::Failed(RequestFailure {
                        kind: FailureKind::Response,
                        message: failure::of_body(&error).to_owned(),
                        status: Some(status),
                    });
                }
            }
        }
        body.truncate(MAX_RESPONSE_BYTES);
        AttemptOutcome::Answered(ReceiverResponse {
            status,
            body: printable(&body),
            retry_after,
            location,
        })
    }

    fn timed_out(&self, status: Option<u16>) -> AttemptOutcome {
        let message = format!("no whole answer within {} s", self.deadline.as_secs());
        AttemptOutcome::Failed(RequestFailure {
            kind: FailureKind::Timeout,
            message,
            status,
        })
    }
}

/// A token that is cancelled after more than [`MAX_INTERIM`] interim responses (RFC 9110, section 15.2) to this
/// request. hyper reads them without end.
fn too_many_interim(request: &mut http::Request<Full<Bytes>>) -> CancellationToken {
    let too_many = CancellationToken::new();
    let (count, token) = (AtomicUsize::new(0), too_many.clone());
    hyper::ext::on_informational(request, move |_| {
        if count.fetch_add(1, Ordering::Relaxed) >= MAX_INTERIM {
            token.cancel();
        }
    });
    too_many
}

fn headers(request: &WebhookRequest<'_>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    // Both were checked at the creation of the subscription. A stored header that cannot be sent is left out.
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
        let signatures = secrets.sign(SignatureInput {
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
    for (name, value) in [(ACCEPT, "*/*"), (USER_AGENT, AGENT)] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    headers
}

fn failed(kind: FailureKind, message: impl Into<String>) -> AttemptOutcome {
    AttemptOutcome::Failed(RequestFailure {
        kind,
        message: message.into(),
        status: None,
    })
}

#[cfg(test)]
mod tests;
