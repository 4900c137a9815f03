//! `X-Request-Id`: the id of a request, in its response, in the body of an error, and in the log. A support request leads to its
//! log lines.

use std::future::Future;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use tracing::Instrument as _;
use uuid::Uuid;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of an id that a client gives.
const MAX_CHARACTERS: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// The client's id, if it is one header of 1 to 128 visible ASCII characters; otherwise a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RequestId(String);

impl RequestId {
    pub fn new(headers: &HeaderMap) -> Self {
        Self(client_id(headers).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned))
    }

    /// The id of the request that this task answers.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Does work for the request: [`RequestId::current`] answers with the id, and log lines have it.
    pub async fn scope<F: Future>(&self, work: F) -> F::Output {
        // At the level of errors, so that the lines of a quiet log have the id, too. The target keeps the span out of traces.
        let span = tracing::error_span!(target: "subscription_api", "request", request.id = self.0);
        CURRENT.scope(self.clone(), work.instrument(span)).await
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

fn client_id(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(X_REQUEST_ID);
    let (Some(only), None) = (all.next(), all.next()) else {
        return None;
    };
    let is_visible = |id: &&str| {
        (1..=MAX_CHARACTERS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    only.to_str().ok().filter(is_visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_REQUEST_ID, HeaderValue::from_str(value).unwrap());
        }
        RequestId::new(&headers).0
    }

    #[test]
    fn a_valid_client_id_is_kept_and_an_invalid_one_is_replaced() {
        let longest = "x".repeat(MAX_CHARACTERS);
        for good in ["a", "req-1/2:3", "\"{}\"", &longest] {
            assert_eq!(of(&[good]), good);
        }
        let long = "x".repeat(MAX_CHARACTERS + 1);
        for bad in [&[][..], &[""], &["a b"], &["é"], &[&long], &["a", "a"]] {
            let made = of(bad);
            assert!(Uuid::try_parse(&made).is_ok(), "{bad:?}: {made}");
            assert_ne!(of(bad), made);
        }
    }
}
