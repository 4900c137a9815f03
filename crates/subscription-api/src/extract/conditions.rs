//! Conditional requests: entity tags of subscriptions, `If-Match` and `If-None-Match` (RFC 9110, 8.8.3 and 13.1). Tags are
//! strong: the revision in quotes.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::{FromRequest, HttpRequest};
use hookline_core::ids::SubscriptionId;
use hookline_core::subscription::{Addressed, Precondition, Revision, Subscription};

pub(crate) fn etag_of(subscription: &Subscription) -> String {
    format!("\"{}\"", subscription.revision())
}

/// The conditions of a request. A tag in another form matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conditions {
    if_match: Precondition,
    if_none_match: Option<Precondition>,
}

impl Conditions {
    fn of(headers: &HeaderMap) -> Self {
        Self {
            if_match: tags(headers, header::IF_MATCH, strong).unwrap_or_default(),
            if_none_match: tags(headers, header::IF_NONE_MATCH, weak),
        }
    }

    /// The subscription with this id, if it matches `If-Match`.
    pub(crate) fn on(self, id: SubscriptionId) -> Addressed {
        Addressed {
            id,
            precondition: self.if_match,
        }
    }

    pub(crate) fn allow(&self, subscription: &Subscription) -> bool {
        self.if_match.holds(subscription.revision())
    }

    /// Whether the client has this revision: 304.
    pub(crate) fn is_known(&self, subscription: &Subscription) -> bool {
        let known = self.if_none_match.as_ref();
        known.is_some_and(|known| known.holds(subscription.revision()))
    }
}

impl FromRequest for Conditions {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(request.headers())))
    }
}

/// Parses a list of tags, which may span several header lines; None without the header.
fn tags(
    headers: &HeaderMap,
    name: HeaderName,
    read: fn(&str) -> Option<Revision>,
) -> Option<Precondition> {
    if !headers.contains_key(&name) {
        return None;
    }
    let lines: Vec<&str> = headers
        .get_all(&name)
        .map(|value| value.to_str().unwrap_or_default().trim())
        .collect();
    if lines == ["*"] {
        return Some(Precondition::Any);
    }
    // A comma in a tag splits it into two texts, which match nothing.
    let texts = lines.iter().flat_map(|line| line.split(','));
    Some(Precondition::OneOf(texts.filter_map(read).collect()))
}

/// For the strong comparison, in which a weak tag never matches (RFC 9110, 13.1.1).
fn strong(text: &str) -> Option<Revision> {
    let quoted = text.trim().strip_prefix('"')?.strip_suffix('"')?;
    quoted.parse().ok()
}

/// For the weak comparison (RFC 9110, 13.1.2).
fn weak(text: &str) -> Option<Revision> {
    let text = text.trim();
    strong(text.strip_prefix("W/").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn conditions(name: &HeaderName, lines: &[&'static str]) -> Conditions {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_static(line));
        }
        Conditions::of(&headers)
    }

    fn matching(lines: &[&'static str]) -> bool {
        let precondition = conditions(&header::IF_MATCH, lines).if_match;
        precondition.holds("7-8".parse().unwrap())
    }

    fn known(lines: &[&'static str]) -> bool {
        let precondition = conditions(&header::IF_NONE_MATCH, lines).if_none_match;
        precondition.is_some_and(|known| known.holds("7-8".parse().unwrap()))
    }

    #[test]
    fn a_list_with_the_strong_tag_matches() {
        assert!(matching(&[]));
        for good in [
            &["\"7-8\""][..],
            &["*"],
            &["\"x\", \"7-8\" ,\"y\""],
            &["\"x\"", "\"7-8\""],
        ] {
            assert!(matching(good), "{good:?}");
        }
    }

    #[test]
    fn a_weak_tag_or_another_text_does_not_match() {
        for bad in [
            &["W/\"7-8\""][..],
            &["\"7-9\""],
            &["7-8"],
            &["\"no such\""],
            &["\"07-8\""],
            &["\"x,7-8\""],
            &["*", "\"x\""],
            &["\"*\""],
            &[""],
        ] {
            assert!(!matching(bad), "{bad:?}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        assert!(!known(&[]));
        for good in [
            &["\"7-8\""][..],
            &["W/\"7-8\""],
            &["*"],
            &["\"x\",W/\"7-8\""],
        ] {
            assert!(known(good), "{good:?}");
        }
        assert!(!known(&["\"7-9\""]) && !known(&["w/\"7-8\""]));
    }
}
