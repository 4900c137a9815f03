//! `X-Request-Id` names a request in its answer and in the log, so a support request leads to its log line.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most characters of an id that a client gives.
const MAX: usize = 128;

/// The id of a request: the client's where it is one header of 1 to 128 visible ASCII characters, else a new one.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(String);

impl RequestId {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(given(headers).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

fn given(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(X_REQUEST_ID);
    let (Some(only), None) = (all.next(), all.next()) else {
        return None;
    };
    let is_visible =
        |id: &&str| (1..=MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
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
        RequestId::of(&headers).0
    }

    #[test]
    fn a_valid_id_of_the_client_is_kept_and_any_other_is_replaced() {
        let longest = "x".repeat(MAX);
        for good in ["a", "req-1/2:3", "\"{}\"", &longest] {
            assert_eq!(of(&[good]), good);
        }
        let long = "x".repeat(MAX + 1);
        for bad in [&[][..], &[""], &["a b"], &["é"], &[&long], &["a", "a"]] {
            let made = of(bad);
            assert!(Uuid::try_parse(&made).is_ok(), "{bad:?}: {made}");
            assert_ne!(of(bad), made);
        }
    }
}
