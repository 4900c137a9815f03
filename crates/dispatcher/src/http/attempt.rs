//! One signed request, and its outcome.

mod failure;
mod headers;
mod location;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hookline_core::event_type::EventType;
use hookline_core::http_log::{HttpLog, PhaseTimes, PublicAddress};
use hookline_core::ids::DeliveryId;
use hookline_core::outcome::{
    AttemptOutcome, FailureKind, MAX_RESPONSE_BYTES, ReceiverResponse, RequestFailure, printable,
};
use hookline_core::retry::retry_after;
use hookline_core::target::{TargetRules, TargetUrl};
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_store::Credentials;
use http::header::{DATE, HeaderName, RETRY_AFTER};
use http::response::Parts;
use http::{Method, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::context::Policy;
use crate::http::client::{Client, RequestPhases, RequestProgress};
use crate::http::dns::DnsResolver;
use crate::http::ssrf_resolver::AllowedAddresses;
use headers::MaskedValues;

/// The most interim responses before a response.
const MAX_INTERIM: usize = 32;

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

/// A finished request.
#[derive(Debug)]
pub(crate) struct FinishedRequest {
    pub outcome: AttemptOutcome,
    pub log: HttpLog,
}

/// The URL of a request that may be made.
struct CheckedTarget {
    url: Url,
    uri: Uri,
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
    pub(crate) async fn send(&self, request: WebhookRequest<'_>) -> FinishedRequest {
        let target = match self.check(request.url) {
            Ok(target) => target,
            Err(outcome) => {
                let log = HttpLog::default();
                return FinishedRequest { outcome, log };
            }
        };
        let headers = headers::of(&request, &target.url);
        let masked = MaskedValues::of(&headers, &request.credentials.headers);
        let request_headers = masked.logged_request(&headers);
        let mut message = http::Request::new(Full::new(request.body));
        *message.method_mut() = Method::POST;
        *message.uri_mut() = target.uri;
        *message.headers_mut() = headers;
        let until = Instant::now() + self.deadline;
        let mut progress = RequestProgress::of(&mut message);
        let sent = self.response(message, &mut progress, until).await;
        let phases = progress.phases();
        let (outcome, response_headers) = match sent {
            Err(outcome) => (outcome, None),
            Ok(response) => {
                let (head, stream) = response.into_parts();
                let location = location::shown(&head.headers, &target.url);
                let logged = masked.logged_response(&head.headers, location.as_deref());
                let outcome = self.read_response(head, stream, location, until).await;
                (outcome, Some(logged))
            }
        };
        let log = match outcome.hides_target() {
            true => HttpLog::default(),
            false => HttpLog {
                request_headers: phases.is_sent.then_some(request_headers),
                response_headers,
                remote_address: phases.remote.and_then(PublicAddress::of),
                times: Some(times(phases)),
            },
        };
        FinishedRequest { outcome, log }
    }

    fn check(&self, url: &TargetUrl) -> Result<CheckedTarget, AttemptOutcome> {
        let blocked =
            |why: String| AttemptOutcome::Failed(failed(FailureKind::BlockedAddress, why));
        let url = Url::parse(url.as_str()).ok();
        let target = url.and_then(|url| {
            let uri = Uri::try_from(url.as_str()).ok()?;
            Some(CheckedTarget { url, uri })
        });
        let target = target.ok_or_else(|| blocked("the URL cannot be called".to_owned()))?;
        let checked = self.rules.check(&target.url);
        checked.map_err(|why| blocked(why.to_string()))?;
        Ok(target)
    }

    /// The response with its body unread, or the outcome of a request without a response.
    async fn response(
        &self,
        mut message: http::Request<Full<Bytes>>,
        progress: &mut RequestProgress,
        until: Instant,
    ) -> Result<Response<Incoming>, AttemptOutcome> {
        let too_many_interim = too_many_interim(&mut message);
        let sending = tokio::select! {
            biased;
            () = too_many_interim.cancelled() => None,
            sent = timeout_at(until, self.client.send(message, progress)) => Some(sent),
        };
        // All of them may come together with a response.
        let Some(sent) = sending.filter(|_| !too_many_interim.is_cancelled()) else {
            let message = format!("more than {MAX_INTERIM} interim answers (1xx)");
            return Err(AttemptOutcome::Failed(failed(
                FailureKind::Response,
                message,
            )));
        };
        match sent {
            Err(_) => Err(self.timed_out(None)),
            Ok(result) => result.map_err(|error| AttemptOutcome::Failed(failure::of(&error))),
        }
    }

    async fn read_response(
        &self,
        head: Parts,
        mut stream: Incoming,
        location: Option<String>,
        until: Instant,
    ) -> AttemptOutcome {
        let status = head.status.as_u16();
        let header = |name: HeaderName| head.headers.get(name)?.to_str().ok();
        let received_at = hookline_clock::now();
        let retry_after =
            header(RETRY_AFTER).and_then(|value| retry_after(value, header(DATE), received_at));
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

fn times(phases: RequestPhases) -> PhaseTimes {
    let millis = |phase: Option<Duration>| u32::try_from(phase?.as_millis()).ok();
    PhaseTimes {
        dns_ms: millis(phases.dns),
        connect_ms: millis(phases.connect),
        tls_ms: millis(phases.tls),
        first_byte_ms: millis(phases.first_byte),
    }
}

fn failed(kind: FailureKind, message: String) -> RequestFailure {
    RequestFailure {
        kind,
        message,
        status: None,
    }
}

#[cfg(test)]
mod tests;
