//! The parts of a request and its response that the log shows besides the bodies: headers, remote address, times.
//!
//! A masked value never enters a [`HeaderLog`], and only a public address becomes a [`PublicAddress`]. No later step can
//! therefore show one by mistake.

use std::fmt;
use std::net::IpAddr;

use crate::target::is_public;

/// The most bytes of a response's header lines that are logged.
pub const MAX_RESPONSE_HEADER_BYTES: usize = 8 * 1024;

/// Headers, remote address and times of one attempt. An attempt without an allowed address has none of them: they would
/// tell internal names from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpLog {
    /// None if no request was sent.
    pub request_headers: Option<HeaderLog>,
    /// None without a response.
    pub response_headers: Option<HeaderLog>,
    pub remote_address: Option<PublicAddress>,
    pub times: Option<PhaseTimes>,
}

/// Names and values of headers in their order, as one text. Each line is `name:value`, or `name` for a masked value. A
/// capital letter stands for a frequent header: names are in lower case. Half of the bytes of a request are thus not
/// stored.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderLog(String);

/// Letters for frequent names, or for a name with its usual value. Stored rows have them: a letter never changes its
/// meaning. A letter with a usual value comes before the letter of the same name.
const LETTERS: &[(char, &str, Option<&str>)] = &[
    ('A', "accept", Some("*/*")),
    ('B', "content-type", Some("application/json")),
    ('C', "content-length", None),
    ('D', "date", None),
    ('E', "x-webhook-event", None),
    ('F', "content-type", None),
    ('G', "connection", None),
    ('H', "host", None),
    ('I', "webhook-id", None),
    ('K', "cache-control", None),
    ('N', "x-webhook-attempt", None),
    ('P', "traceparent", None),
    ('R', "x-webhook-signature-previous", None),
    ('S', "x-webhook-signature", None),
    ('T', "webhook-timestamp", None),
    ('U', "user-agent", None),
    ('V', "server", None),
    ('W', "webhook-signature", None),
];

impl HeaderLog {
    /// An empty log with room for a usual request.
    pub fn new() -> Self {
        Self(String::with_capacity(256))
    }

    /// A text that [`Self::as_str`] made.
    pub fn from_store(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Adds a header. `name` is a token in lower case. Control characters of the value become U+FFFD, except tabs.
    pub fn show(&mut self, name: &str, value: &str) {
        let usual = LETTERS
            .iter()
            .find(|(_, of, usual)| *usual == Some(value) && *of == name);
        if let Some((letter, _, _)) = usual {
            self.0.push(*letter);
        } else {
            self.push_name(name);
            self.0.push(':');
            let is_hidden = |symbol: char| symbol.is_control() && symbol != '\t';
            if value.contains(is_hidden) {
                self.0.push_str(&value.replace(is_hidden, "\u{fffd}"));
            } else {
                self.0.push_str(value);
            }
        }
        self.0.push('\n');
    }

    /// Adds a header without its value. `name` is a token in lower case.
    pub fn mask(&mut self, name: &str) {
        self.push_name(name);
        self.0.push('\n');
    }

    fn push_name(&mut self, name: &str) {
        let known = LETTERS
            .iter()
            .find(|(_, of, usual)| usual.is_none() && *of == name);
        match known {
            Some((letter, _, _)) => self.0.push(*letter),
            None => self.0.push_str(name),
        }
    }

    /// Names and values; none for a masked value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.lines().map(|line| {
            let (name, value) = match line.split_once(':') {
                Some((name, value)) => (name, Some(value)),
                None => (line, None),
            };
            let of_letter = |(letter, _, _): &&(char, &str, Option<&str>)| {
                name.strip_prefix(*letter).is_some_and(str::is_empty)
            };
            match LETTERS.iter().find(of_letter) {
                Some((_, name, usual)) => (*name, value.or(*usual)),
                None => (name, value),
            }
        })
    }

    /// Keeps the first headers, as many as fit into `bytes` of text.
    pub fn truncate(&mut self, bytes: usize) {
        let kept = &self.0.as_bytes()[..bytes.min(self.0.len())];
        let end = kept.iter().rposition(|byte| *byte == b'\n');
        self.0.truncate(end.map_or(0, |at| at + 1));
    }
}

/// The values may be private, so Debug shows only their size.
impl fmt::Debug for HeaderLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderLog({} bytes)", self.0.len())
    }
}

/// An address that is global unicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicAddress(IpAddr);

impl PublicAddress {
    /// The address, if it is public.
    pub fn of(address: IpAddr) -> Option<Self> {
        is_public(address).then_some(Self(address))
    }

    /// The text of an address, if it is public.
    pub fn parse(text: &str) -> Option<Self> {
        Self::of(text.parse().ok()?)
    }
}

impl fmt::Display for PublicAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The phases of a request in milliseconds. A phase that did not happen or did not end has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PhaseTimes {
    pub dns_ms: Option<u32>,
    pub connect_ms: Option<u32>,
    pub tls_ms: Option<u32>,
    /// From the connection, or from the begin of a request on a kept connection, to the first byte of a response.
    pub first_byte_ms: Option<u32>,
}

impl PhaseTimes {
    /// The text of an earlier `to_string`, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(',').map(|field| match field {
            "" => Some(None),
            number => number.parse().ok().map(Some),
        });
        let mut next = || fields.next()?;
        let times = Self {
            dns_ms: next()?,
            connect_ms: next()?,
            tls_ms: next()?,
            first_byte_ms: next()?,
        };
        fields.next().is_none().then_some(times)
    }
}

/// The four numbers with commas between, such as `3,20,,7`.
impl fmt::Display for PhaseTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases = [
            self.dns_ms,
            self.connect_ms,
            self.tls_ms,
            self.first_byte_ms,
        ];
        for (at, phase) in phases.into_iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            if let Some(millis) = phase {
                write!(f, "{millis}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frequent_headers_are_stored_as_letters() {
        let mut log = HeaderLog::new();
        log.mask("authorization");
        log.show("webhook-id", "1");
        log.mask("x-webhook-signature");
        log.show("content-type", "application/json");
        log.show("content-type", "text/html");
        log.mask("content-type");
        log.show("x-empty", "");
        log.show("x-pair", "a:b");
        assert_eq!(
            log.as_str(),
            "authorization\nI:1\nS\nB\nF:text/html\nF\nx-empty:\nx-pair:a:b\n"
        );
        let shown: Vec<_> = log.iter().collect();
        assert_eq!(
            shown,
            [
                ("authorization", None),
                ("webhook-id", Some("1")),
                ("x-webhook-signature", None),
                ("content-type", Some("application/json")),
                ("content-type", Some("text/html")),
                ("content-type", None),
                ("x-empty", Some("")),
                ("x-pair", Some("a:b")),
            ]
        );
        assert_eq!(format!("{log:?}"), "HeaderLog(56 bytes)");
    }

    #[test]
    fn no_letter_stands_for_two_headers() {
        let letters: std::collections::BTreeSet<char> =
            LETTERS.iter().map(|(letter, _, _)| *letter).collect();
        assert_eq!(letters.len(), LETTERS.len());
    }

    #[test]
    fn a_cut_log_has_whole_headers() {
        let mut log = HeaderLog::new();
        log.show("a", "1");
        log.show("b", "é");
        let whole = log.clone();
        log.truncate(100);
        assert_eq!(log, whole);
        log.truncate(8);
        assert_eq!(log.as_str(), "a:1\n");
        log.truncate(3);
        assert_eq!(log.as_str(), "");
    }

    #[test]
    fn only_public_addresses_can_be_logged() {
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "::1",
            "fd12::1",
            "fe80::1",
            "::ffff:8.8.8.8",
        ] {
            assert_eq!(PublicAddress::parse(private), None, "{private}");
        }
        for public in ["8.8.8.8", "2606:4700::1111"] {
            assert_eq!(PublicAddress::parse(public).unwrap().to_string(), public);
        }
    }

    #[test]
    fn times_that_are_not_four_are_refused() {
        for text in ["", "1", "1,2,3", "1,2,3,4,5", "a,,,", "-1,,,", ",,, "] {
            assert_eq!(PhaseTimes::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn headers_come_back_as_they_were(
            headers in prop::collection::vec(("[a-z0-9!#$%&'*+.^_`|~-]{1,20}", prop::option::of("[ -~\t\u{80}-\u{ffff}]{0,30}")), 0..8)
        ) {
            let mut log = HeaderLog::new();
            for (name, value) in &headers {
                match value {
                    Some(value) => log.show(name, value),
                    None => log.mask(name),
                }
            }
            let stored = HeaderLog::from_store(log.as_str().to_owned());
            let control = |value: &str| value.replace(|symbol: char| symbol.is_control() && symbol != '\t', "\u{fffd}");
            let expected: Vec<(String, Option<String>)> = headers.into_iter()
                .map(|(name, value)| (name, value.map(|value| control(&value)))).collect();
            let read: Vec<(String, Option<String>)> = stored.iter()
                .map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn a_value_adds_no_header(value in "(?s).{0,40}") {
            let mut log = HeaderLog::new();
            log.show("a", &value);
            log.mask("b");
            prop_assert_eq!(log.iter().count(), 2);
        }

        #[test]
        fn times_come_back_as_they_were(phases in prop::array::uniform4(prop::option::of(any::<u32>()))) {
            let [dns_ms, connect_ms, tls_ms, first_byte_ms] = phases;
            let times = PhaseTimes { dns_ms, connect_ms, tls_ms, first_byte_ms };
            prop_assert_eq!(PhaseTimes::parse(&times.to_string()), Some(times));
        }
    }
}
