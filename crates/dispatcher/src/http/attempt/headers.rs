//! The headers of a request, and the headers that the log shows.
//!
//! The log never shows signatures and values that the customer configured. A signature of the body does not expire, so a
//! reader of the log could send forged requests with it.

use std::borrow::Cow;

use hookline_core::headers::CustomHeaders;
use hookline_core::http_log::{HeaderLog, MAX_RESPONSE_HEADER_BYTES};
use hookline_core::outcome::printable;
use hookline_core::signing::SignatureInput;
use http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    USER_AGENT,
};
use url::Url;

use super::WebhookRequest;

const AGENT: &str = concat!("Hookline/", env!("CARGO_PKG_VERSION"));

const SIGNATURES: [&str; 3] = [
    "x-webhook-signature",
    "x-webhook-signature-previous",
    "webhook-signature",
];

/// Response headers with credentials. A server that reflects a request returns those of a request. The last three have
/// values that are computed from a password, or a cookie (RFC 7615, sections 3 and 4; RFC 2965, section 3.2.2).
const CREDENTIALS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "set-cookie2",
    "authentication-info",
    "proxy-authentication-info",
];

/// Response headers with URLs that may have credentials in them, in forms that are not worth a parser.
const WITH_URLS: [&str; 3] = ["content-location", "link", "refresh"];

/// A shorter value occurs in other values by chance. It is a reflected one only where it is the whole value.
const SHORTEST_PART: usize = 8;

/// ": " and the line break of a header line.
const LINE: usize = 4;

/// All headers of a request in the order in which they are sent.
pub(super) fn of(request: &WebhookRequest<'_>, url: &Url) -> HeaderMap {
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
        let [plain, previous, standard] = SIGNATURES;
        ours(plain, &signatures.plain);
        if let Some(value) = &signatures.plain_previous {
            ours(previous, value);
        }
        ours(standard, &signatures.standard);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [(ACCEPT, "*/*"), (USER_AGENT, AGENT)] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    // hyper would add these two. Here they are, so that the log has them.
    let host = url.host_str().unwrap_or_default();
    let host = match url.port() {
        Some(port) => HeaderValue::try_from(format!("{host}:{port}")),
        None => HeaderValue::try_from(host),
    };
    if let Ok(host) = host {
        headers.insert(HOST, host);
    }
    headers.insert(CONTENT_LENGTH, request.body.len().into());
    headers
}

/// The values of one request that the log never shows.
pub(super) struct MaskedValues<'a> {
    configured: &'a CustomHeaders,
    signatures: Vec<HeaderValue>,
}

impl<'a> MaskedValues<'a> {
    pub(super) fn of(headers: &HeaderMap, configured: &'a CustomHeaders) -> Self {
        let signatures = SIGNATURES.iter().filter_map(|name| headers.get(*name));
        Self {
            configured,
            signatures: signatures.cloned().collect(),
        }
    }

    /// The headers of the request.
    pub(super) fn logged_request(&self, headers: &HeaderMap) -> HeaderLog {
        let mut log = HeaderLog::new();
        for (name, value) in headers {
            match value.to_str() {
                Ok(value) if !self.is_masked(name.as_str()) => log.show(name.as_str(), value),
                _ => log.mask(name.as_str()),
            }
        }
        log
    }

    /// The first 8 KiB of the headers of the response. `location` is the target of a redirect in a form that the log may
    /// show.
    pub(super) fn logged_response(&self, headers: &HeaderMap, location: Option<&str>) -> HeaderLog {
        let mut log = HeaderLog::new();
        let mut left = MAX_RESPONSE_HEADER_BYTES;
        for (name, value) in headers {
            let name = name.as_str();
            let Some(room) = left.checked_sub(name.len() + LINE) else {
                break;
            };
            left = room.saturating_sub(value.len());
            let text = match value.to_str() {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => Cow::Owned(printable(value.as_bytes())),
            };
            let has_secrets = CREDENTIALS.contains(&name) || WITH_URLS.contains(&name);
            if has_secrets || self.is_masked(name) || self.is_reflected_in(&text) {
                log.mask(name);
            } else if name == LOCATION.as_str() {
                match location {
                    Some(location) => {
                        log.show(name, &location[..location.floor_char_boundary(room)])
                    }
                    None => log.mask(name),
                }
            } else {
                match value.len() <= room {
                    true => log.show(name, &text),
                    false => log.show(name, &printable(&value.as_bytes()[..room])),
                }
            }
        }
        log
    }

    fn is_masked(&self, name: &str) -> bool {
        let mut configured = self.configured.names();
        SIGNATURES.contains(&name) || configured.any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Whether a value of a response has a masked value of the request in it.
    fn is_reflected_in(&self, value: &str) -> bool {
        let signatures = self.signatures.iter().filter_map(|it| it.to_str().ok());
        let signatures = signatures
            .flat_map(|it| it.split(' '))
            .map(|signature| signature.trim_start_matches("v1,"));
        // A receiver may reflect the token alone of `Bearer token`.
        let configured = self.configured.iter().flat_map(|(_, value)| {
            let token = value.rsplit_once(' ').map(|(_, token)| token);
            [Some(value), token].into_iter().flatten()
        });
        signatures
            .chain(configured)
            .any(|secret| match secret.len() >= SHORTEST_PART {
                true => value.contains(secret),
                false => value == secret && !secret.is_empty(),
            })
    }
}
