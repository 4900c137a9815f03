//! Custom headers of a subscription's requests.

use std::fmt;

/// The most headers of one subscription.
pub const MAX_HEADERS: usize = 20;

/// The most bytes of all names and values together.
pub const MAX_HEADER_BYTES: usize = 8 * 1024;

const RESERVED: [&str; 13] = [
    "host",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "accept-encoding",
    "cookie",
    "user-agent",
    "traceparent",
    "tracestate",
];

const RESERVED_PREFIXES: [&str; 4] = ["content-", "proxy-", "x-webhook-", "webhook-"];

/// Valid names and values. The values may be credentials, so Debug shows only the names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(Vec<(String, String)>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// Not a token of RFC 9110, section 5.6.2.
    #[error("is not a valid header name")]
    Name,
    /// Hookline sets it, or it would change how the request is framed.
    #[error("is reserved")]
    Reserved,
    /// Two names that differ in case alone are one header.
    #[error("is there twice (case does not matter)")]
    Duplicate,
    /// Not visible ASCII, spaces and tabs, or white space at an end.
    #[error("has a value that is not visible ASCII, or begins or ends with white space")]
    Value,
}

impl CustomHeaders {
    /// # Errors
    /// [`InvalidHeader`], and the set stays as it was.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), InvalidHeader> {
        let lowercase = name.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(InvalidHeader::Name);
        }
        let reserved = RESERVED.contains(&lowercase.as_str())
            || RESERVED_PREFIXES
                .iter()
                .any(|prefix| lowercase.starts_with(prefix));
        if reserved {
            return Err(InvalidHeader::Reserved);
        }
        if self.names().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(InvalidHeader::Duplicate);
        }
        let visible = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
        if !value.bytes().all(visible) || value.trim() != value {
            return Err(InvalidHeader::Value);
        }
        self.0.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Whether the set as a whole is small enough.
    pub fn fits(&self) -> bool {
        let bytes: usize = self
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.0.len() <= MAX_HEADERS && bytes <= MAX_HEADER_BYTES
    }

    /// Headers that were checked when they were stored.
    pub fn from_store(headers: Vec<(String, String)>) -> Self {
        Self(headers)
    }

    /// The names, in the order given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// Names and values, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(name: &str, value: &str) -> Result<(), InvalidHeader> {
        CustomHeaders::default().add(name, value)
    }

    #[test]
    fn names_that_hookline_sets_or_that_frame_the_request_are_reserved() {
        for name in [
            "Host",
            "content-type",
            "Content-Length",
            "content-anything",
            "Transfer-Encoding",
            "connection",
            "TE",
            "trailer",
            "upgrade",
            "expect",
            "keep-alive",
            "accept-encoding",
            "proxy-authorization",
            "cookie",
            "User-Agent",
            "traceparent",
            "tracestate",
            "X-Webhook-Signature",
            "x-webhook-anything",
            "webhook-id",
            "Webhook-Anything",
        ] {
            assert_eq!(added(name, "v"), Err(InvalidHeader::Reserved), "{name}");
        }
        for name in [
            "Authorization",
            "X-Api-Key",
            "hosted",
            "x-webhooks",
            "contents",
            "tea",
        ] {
            assert_eq!(added(name, "v"), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_are_tokens_and_values_visible_ascii() {
        for name in ["", "a b", "a:", "é", "a\r\nb", "(a)"] {
            assert_eq!(added(name, "v"), Err(InvalidHeader::Name), "{name:?}");
        }
        for value in ["a\r\nb: c", "\0", "é", " a", "a ", "\u{7f}"] {
            assert_eq!(added("a", value), Err(InvalidHeader::Value), "{value:?}");
        }
        assert_eq!(added("a", ""), Ok(()));
        assert_eq!(added("a", "b\tc d"), Ok(()));
    }

    #[test]
    fn names_that_differ_in_case_alone_are_one() {
        let mut headers = CustomHeaders::default();
        headers.add("X-A", "1").unwrap();
        assert_eq!(headers.add("x-a", "2"), Err(InvalidHeader::Duplicate));
    }

    #[test]
    fn twenty_headers_and_8_kib_fit() {
        let of = |count: usize| {
            let mut headers = CustomHeaders::default();
            for index in 0..count {
                headers.add(&format!("h{index:02}"), "v").unwrap();
            }
            headers
        };
        assert!(of(20).fits());
        assert!(!of(21).fits());
        let mut headers = CustomHeaders::default();
        headers.add("a", &"v".repeat(MAX_HEADER_BYTES - 1)).unwrap();
        assert!(headers.fits());
        headers.add("b", "").unwrap();
        assert!(!headers.fits());
    }

    #[test]
    fn debug_does_not_show_values() {
        let mut headers = CustomHeaders::default();
        headers.add("Authorization", "Bearer hush").unwrap();
        assert_eq!(format!("{headers:?}"), r#"["Authorization"]"#);
    }
}
