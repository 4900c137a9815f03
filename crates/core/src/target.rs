//! Where a subscription may point: rules for the URL as it is written, and for the addresses that
//! it leads to.
//!
//! A resolver is never asked for a literal, so a literal is judged here, in every spelling that
//! the URL standard knows (`127.1`, `0x7f000001`, `[::ffff:127.0.0.1]`); a name is judged when it
//! has been resolved, by whoever dials it.

use std::fmt;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// The longest URL, in characters.
pub const MAX_URL: usize = 2048;

/// Which targets are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TargetRules {
    /// Which schemes.
    pub schemes: Schemes,
    /// Which networks.
    pub networks: Networks,
}

/// Which schemes a target may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schemes {
    /// `https` alone.
    #[default]
    HttpsOnly,
    /// `http` too, for trying things out.
    HttpToo,
}

/// Which addresses a target may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Networks {
    /// Global unicast alone.
    #[default]
    Public,
    /// Any, for trying things out and for those who deliver inside.
    Any,
}

impl TargetRules {
    /// What `hookline dev` allows: receivers on one's own machine.
    pub const DEV: TargetRules = TargetRules {
        schemes: Schemes::HttpToo,
        networks: Networks::Any,
    };

    /// Whether an address may be dialled.
    pub fn allow(&self, address: IpAddr) -> bool {
        self.networks == Networks::Any || is_public(address)
    }

    /// Whether a URL's literal address may be dialled; a name is not judged here.
    pub fn allow_host(&self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Ipv4(address)) => self.allow(address.into()),
            Some(Host::Ipv6(address)) => self.allow(address.into()),
            Some(Host::Domain(_)) => true,
            None => false,
        }
    }
}

/// The URL of a subscription, as its owner wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl(Box<str>);

/// Path and query may hold a token of the receiver's: only the origin shows itself.
impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = Url::parse(&self.0).map(|url| url.origin().ascii_serialization());
        write!(f, "TargetUrl({}/…)", origin.unwrap_or_default())
    }
}

/// Why a text is no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// More than [`MAX_URL`] characters.
    #[error("must have at most {MAX_URL} characters")]
    TooLong,
    /// No absolute URL with a host.
    #[error("must be an absolute URL such as https://example.com/hooks")]
    NotAbsolute,
    /// A scheme that is not allowed.
    #[error("must begin with https://")]
    Scheme,
    /// A user name or password.
    #[error("must not have a user name or password; use a custom header")]
    Credentials,
    /// A fragment.
    #[error("must not have a fragment (#…)")]
    Fragment,
    /// A literal address that must not be called.
    #[error("must not point to a private, local or reserved address")]
    BlockedAddress,
}

impl TargetUrl {
    /// Takes a URL under `rules`.
    ///
    /// # Errors
    /// [`InvalidTarget`], the first rule that it breaks.
    pub fn parse(text: &str, rules: &TargetRules) -> Result<Self, InvalidTarget> {
        if text.chars().count() > MAX_URL {
            return Err(InvalidTarget::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(InvalidTarget::NotAbsolute);
        }
        let url = Url::parse(text).map_err(|_| InvalidTarget::NotAbsolute)?;
        let scheme_allowed = match url.scheme() {
            "https" => true,
            "http" => rules.schemes == Schemes::HttpToo,
            _ => false,
        };
        if !scheme_allowed {
            return Err(InvalidTarget::Scheme);
        }
        let written_absolutely = text
            .get(url.scheme().len()..)
            .is_some_and(|rest| rest.starts_with("://"));
        if !written_absolutely || url.host().is_none() {
            return Err(InvalidTarget::NotAbsolute);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidTarget::Credentials);
        }
        if url.fragment().is_some() {
            return Err(InvalidTarget::Fragment);
        }
        if !rules.allow_host(&url) {
            return Err(InvalidTarget::BlockedAddress);
        }
        Ok(Self(text.into()))
    }

    /// A URL that was checked when it was stored; it is checked again before it is called.
    pub fn from_store(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The URL as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether an address is global unicast and leads where it says: the IANA special-purpose
/// registries (RFC 6890) and the transition mechanisms that carry an IPv4 address inside.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol_assignments = a == 192 && b == 0 && c == 0;
    let relay_anycast = a == 192 && b == 88 && c == 99;
    let benchmarking = a == 198 && (18..20).contains(&b);
    !(a == 0
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || shared
        || protocol_assignments
        || relay_anycast
        || benchmarking
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let global_unicast = segments[0] & 0xe000 == 0x2000;
    let protocol_assignments_and_teredo = segments[0] == 0x2001 && segments[1] < 0x0200;
    let documentation = segments[0] == 0x2001 && segments[1] == 0x0db8
        || segments[0] == 0x3fff && segments[1] < 0x1000;
    let six_to_four = segments[0] == 0x2002;
    global_unicast && !protocol_assignments_and_teredo && !documentation && !six_to_four
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(text: &str) -> Result<TargetUrl, InvalidTarget> {
        TargetUrl::parse(text, &TargetRules::default())
    }

    #[test]
    fn a_target_is_an_absolute_https_url_of_at_most_2048_characters() {
        let longest = format!("https://example.com/{}", "a".repeat(MAX_URL - 20));
        assert!(strict(&longest).is_ok());
        assert_eq!(strict(&format!("{longest}a")), Err(InvalidTarget::TooLong));
        for (text, why) in [
            ("", InvalidTarget::NotAbsolute),
            ("/hooks", InvalidTarget::NotAbsolute),
            ("example.com", InvalidTarget::NotAbsolute),
            ("https:example.com", InvalidTarget::NotAbsolute),
            ("https:///", InvalidTarget::NotAbsolute),
            (" https://example.com", InvalidTarget::NotAbsolute),
            ("https://exam\nple.com", InvalidTarget::NotAbsolute),
            ("http://example.com", InvalidTarget::Scheme),
            ("ftp://example.com", InvalidTarget::Scheme),
            ("javascript:alert(1)", InvalidTarget::Scheme),
            ("https://u@example.com", InvalidTarget::Credentials),
            ("https://u:p@example.com", InvalidTarget::Credentials),
            ("https://:p@example.com", InvalidTarget::Credentials),
            ("https://example.com/#a", InvalidTarget::Fragment),
            ("https://example.com/#", InvalidTarget::Fragment),
        ] {
            assert_eq!(strict(text), Err(why), "{text}");
        }
        for good in [
            "https://example.com",
            "HTTPS://Example.com:8443/a?b=c",
            "https://bücher.example/",
        ] {
            assert_eq!(strict(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_literal_inside_address_is_refused_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.0.0.1.",
            "0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:8.8.8.8]",
            "[::127.0.0.1]",
            "[fe80::1]",
            "[fec0::1]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[ff02::1]",
            "[2001:db8::1]",
            "[3fff::1]",
            "[2001::1]",
            "[2001:10::1]",
            "[2002:7f00:1::]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[100::1]",
            "[5f00::1]",
        ] {
            let text = format!("https://{host}/");
            assert_eq!(strict(&text), Err(InvalidTarget::BlockedAddress), "{text}");
        }
    }

    #[test]
    fn public_addresses_next_to_the_blocked_ones_are_allowed() {
        for host in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.0.1",
            "169.255.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "192.169.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "[2001:200::1]",
            "[2606:4700::1111]",
            "[2a00:1450::1]",
        ] {
            assert!(strict(&format!("https://{host}/")).is_ok(), "{host}");
        }
    }

    #[test]
    fn dev_allows_ones_own_machine() {
        assert!(TargetUrl::parse("http://127.0.0.1:9000/", &TargetRules::DEV).is_ok());
    }
}
