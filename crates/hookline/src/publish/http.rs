//! Publishing over HTTP: `POST /v1/events`.

use std::collections::{BTreeMap, HashSet};
use std::error::Error as _;
use std::fmt;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use backon::{ExponentialBuilder, Retryable as _};
use hookline_core::ids::OrganizationId;
use hookline_core::retry::retry_after;
use hookline_core::timestamp::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde_json::Value;

use crate::publish::lines::NumberedEvent;
use crate::publish::progress::Progress;

/// Events in one request.
pub(super) const WINDOW: usize = 1_000;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(20);

const TRIES: usize = 8;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// The limit of a `Retry-After` header.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

const MAX_PROBLEM_BYTES: usize = 64 * 1024;

const FIELDS_SHOWN: usize = 3;

const ORGANIZATION: HeaderName = HeaderName::from_static("x-org-id");

#[derive(Debug)]
pub(super) struct EventsClient {
    client: Client,
    events: Url,
    key: HeaderValue,
}

/// Events of one organization, sent in one request.
#[derive(Debug)]
pub(super) struct PublishRequest<'a> {
    organization: &'a OrganizationId,
    events: Vec<NumberedEvent<'a>>,
}

#[derive(Debug)]
enum SendError {
    Unreachable(reqwest::Error),
    Refused {
        status: StatusCode,
        wait: Option<Duration>,
        detail: String,
    },
}

impl EventsClient {
    pub(super) fn new(url: &str, key: &str) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/');
        let events = Url::parse(&format!("{base}/v1/events")).context("--http is no URL")?;
        anyhow::ensure!(
            matches!(events.scheme(), "http" | "https"),
            "--http must begin with http:// or https://"
        );
        anyhow::ensure!(
            events.username().is_empty() && events.password().is_none(),
            "--http must have no user and no password: the API asks for a key, in HOOKLINE_API_KEY"
        );
        let mut key = HeaderValue::try_from(format!("Bearer {key}"))
            .ok()
            .context("--api-key is no API key")?;
        key.set_sensitive(true);
        let client = Client::builder()
            .user_agent(concat!("hookline-publish/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self {
            client,
            events,
            key,
        })
    }

    /// Returns when all events are durable. Every event has an id, so sending it again after a lost response is
    /// idempotent.
    pub(super) async fn publish(
        &self,
        request: &PublishRequest<'_>,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let waits = ExponentialBuilder::default()
            .with_min_delay(FIRST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .with_max_times(TRIES - 1)
            .with_jitter();
        let sent = (|| self.send(request))
            .retry(waits)
            .when(SendError::is_transient)
            .adjust(|why, wait| Some(wait?.max(why.requested_wait())))
            .notify(|why, wait| {
                progress.print(&format!(
                    "{why}; trying again in {:.1} s",
                    wait.as_secs_f64()
                ));
            })
            .await;
        sent.map_err(|why| {
            let Self { events, .. } = self;
            anyhow::anyhow!("could not publish {request} to {events}: {why}")
        })
    }

    async fn send(&self, request: &PublishRequest<'_>) -> Result<(), SendError> {
        let mut post = self
            .client
            .post(self.events.clone())
            .header(AUTHORIZATION, self.key.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(request.json());
        // An id has no control characters, so it is a valid header value.
        if let Ok(id) = HeaderValue::from_bytes(request.organization.as_str().as_bytes()) {
            post = post.header(ORGANIZATION, id);
        }
        let mut answer = post.send().await.map_err(SendError::Unreachable)?;
        if answer.status() == StatusCode::ACCEPTED {
            return Ok(());
        }
        let header = |name: HeaderName| answer.headers().get(name)?.to_str().ok();
        let received_at = Timestamp::from(SystemTime::now());
        let wait =
            header(RETRY_AFTER).and_then(|value| retry_after(value, header(DATE), received_at));
        Err(SendError::Refused {
            status: answer.status(),
            wait,
            detail: request.detail(&beginning(&mut answer).await),
        })
    }
}

async fn beginning(answer: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_PROBLEM_BYTES {
            break;
        }
    }
    body
}

impl<'a> PublishRequest<'a> {
    /// Splits events by organization, because a request has events of one organization. Splits also where an id comes
    /// again: the API refuses a request with two bodies under one id, and over two requests the first body counts.
    pub(super) fn split(events: &[NumberedEvent<'a>]) -> Vec<Self> {
        let mut by_organization: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for numbered in events {
            let organization = &numbered.event.organization;
            by_organization
                .entry(organization)
                .or_default()
                .push(*numbered);
        }
        let mut requests: Vec<Self> = Vec::new();
        for (organization, events) in by_organization {
            let mut ids = HashSet::new();
            for one in events {
                if ids.is_empty() || !ids.insert(&one.event.id) {
                    ids.clear();
                    ids.insert(&one.event.id);
                    requests.push(Self {
                        organization,
                        events: Vec::new(),
                    });
                }
                if let Some(request) = requests.last_mut() {
                    request.events.push(one);
                }
            }
        }
        requests
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    fn json(&self) -> Vec<u8> {
        let bytes: usize = self.events.iter().map(|one| one.event.body.len() + 1).sum();
        let mut array = Vec::with_capacity(bytes + 1);
        for one in &self.events {
            array.push(if array.is_empty() { b'[' } else { b',' });
            array.extend_from_slice(&one.event.body);
        }
        array.push(b']');
        array
    }

    /// The text of a problem (RFC 9457), with line numbers of the input for its indices.
    fn detail(&self, body: &[u8]) -> String {
        let Ok(problem) = serde_json::from_slice::<Value>(body) else {
            return String::new();
        };
        let text = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
        let mut detail = text(&problem, "detail");
        let errors = problem["errors"].as_array().map_or(&[][..], Vec::as_slice);
        for error in errors.iter().take(FIELDS_SHOWN) {
            let (field, message) = (text(error, "field"), text(error, "message"));
            detail += &match self.on_a_line(&field).as_str() {
                "" => format!("; {message}"),
                place => format!("; {place}: {message}"),
            };
        }
        if errors.len() > FIELDS_SHOWN {
            detail += "; …";
        }
        detail
    }

    /// Turns `[3].data` into `line 17: data`.
    fn on_a_line(&self, field: &str) -> String {
        let line = field.strip_prefix('[').and_then(|rest| {
            let (index, rest) = rest.split_once(']')?;
            let one = self.events.get(index.parse::<usize>().ok()?)?;
            let name = rest
                .strip_prefix('.')
                .map_or(rest.to_owned(), |name| format!(": {name}"));
            Some(format!("line {}{name}", one.line))
        });
        line.unwrap_or_else(|| field.to_owned())
    }
}

impl fmt::Display for PublishRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let organization = self.organization;
        match self.events.as_slice() {
            [] => write!(f, "no events of {organization}"),
            [one] => write!(f, "the event of {organization} on line {}", one.line),
            [first, .., last] => {
                let (count, first, last) = (self.len(), first.line, last.line);
                write!(
                    f,
                    "the {count} events of {organization} on lines {first} to {last}"
                )
            }
        }
    }
}

impl SendError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(why) => !why.is_builder(),
            Self::Refused { status, .. } => matches!(status.as_u16(), 408 | 429 | 502..=504),
        }
    }

    fn requested_wait(&self) -> Duration {
        match self {
            Self::Refused {
                wait: Some(wait), ..
            } => (*wait).min(LONGEST_RETRY_AFTER),
            _ => Duration::ZERO,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) if why.is_timeout() => {
                f.write_str("the API did not answer in time")
            }
            Self::Unreachable(why) => {
                // The last cause is the specific one: "Connection refused".
                let causes = std::iter::successors(why.source(), |&cause| cause.source());
                match causes.last() {
                    Some(cause) => write!(f, "cannot reach the API: {cause}"),
                    None => write!(f, "cannot reach the API: {why}"),
                }
            }
            Self::Refused { status, detail, .. } if detail.is_empty() => {
                write!(f, "the API answered {status}")
            }
            Self::Refused { status, detail, .. } => {
                write!(f, "the API answered {status}: {detail}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
