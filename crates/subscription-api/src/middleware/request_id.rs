//! `X-Request-Id`: the id of a request, in its response and in the log. A support request leads to its log line.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of an id that a client gives.
const MAX_CHARACTERS: usize = 128;

/// The client's id, if it is one header of 1 to 128 visible ASCII characters; otherwise a new one.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(String);

impl RequestId {
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        Self(client_id(headers).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header(&self) -> Option<HeaderValue> {
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
