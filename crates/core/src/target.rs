//! SSRF protection: rules for a target URL as it is written, and for the addresses that its name resolves to.
//!
//! A literal address is never resolved, so its check is here, in every spelling of the URL standard (`127.1`,
//! `0x7f000001`, `[::ffff:127.0.0.1]`). A name is only checked for whether it can be public. The dispatcher checks the
//! addresses of a name after it has resolved it.

mod address;
mod name;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use url::{Host, ParseError, Url};

pub use address::is_public;
pub use ipnet::IpNet;

/// The longest URL, in characters.
pub const MAX_URL: usize = 2048;

/// The targets that are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetRules {
    pub schemes: Schemes,
    pub networks: Networks,
    pub ports: Ports,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schemes {
    /// `https` alone.
    #[default]
    HttpsOnly,
    /// `http` too, for development.
    HttpToo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Networks {
    /// Global unicast, and these networks, for targets inside one's own network.
    PublicAnd(Arc<[IpNet]>),
    /// For development.
    Any,
}

impl Default for Networks {
    fn default() -> Self {
        Self::PublicAnd(Arc::default())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// These; and 80 for `http`, where that is allowed.
    These(Arc<[u16]>),
    /// For development.
    Any,
}

impl Default for Ports {
    fn default() -> Self {
        Self::These(Arc::new([443]))
    }
}

/// The rule that a URL breaks. The addresses of names are checked after resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockedTarget {
    #[error("the URL has a scheme that must not be called")]
    Scheme,
    #[error("the URL has a port that must not be called")]
    Port,
    #[error("the URL names an address that must not be called")]
    Address,
    /// Its host, to which no request can be made.
    #[error("the URL has a host to which no request can be made")]
    Host,
    /// Its name, which is never public.
    #[error("the URL has a name that is never public")]
    Name,
}

impl TargetRules {
    /// The rules of `hookline dev`: receivers on the same machine.
    pub const DEV: TargetRules = TargetRules {
        schemes: Schemes::HttpToo,
        networks: Networks::Any,
        ports: Ports::Any,
    };

    /// Whether an address may be dialled.
    pub fn allow(&self, address: IpAddr) -> bool {
        match &self.networks {
            Networks::Any => true,
            Networks::PublicAnd(networks) => {
                is_public(address) || networks.iter().any(|network| network.contains(&address))
            }
        }
    }

    /// Checks a URL before it is stored, and again before each request, because the rules may have changed.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, url: &Url) -> Result<(), BlockedTarget> {
        let (allowed_scheme, usual_port) = match url.scheme() {
            "https" => (true, 443),
            "http" => (self.schemes == Schemes::HttpToo, 80),
            _ => (false, 0),
        };
        if !allowed_scheme {
            return Err(BlockedTarget::Scheme);
        }
        let allowed_address = match url.host() {
            Some(Host::Ipv4(address)) => self.allow(address.into()),
            Some(Host::Ipv6(address)) => self.allow(address.into()),
            Some(Host::Domain(name)) => {
                name::check(name, &self.networks)?;
                true
            }
            None => false,
        };
        if !allowed_address {
            return Err(BlockedTarget::Address);
        }
        let port = url.port().unwrap_or(usual_port);
        let allowed_port = match &self.ports {
            Ports::Any => true,
            Ports::These(ports) => ports.contains(&port) || (url.scheme(), port) == ("http", 80),
        };
        match allowed_port {
            true => Ok(()),
            false => Err(BlockedTarget::Port),
        }
    }
}

/// The URL of a subscription, as its owner wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl(Box<str>);

/// Path and query may hold a token of the receiver, so Debug shows only the origin.
impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = Url::parse(&self.0).map(|url| url.origin().ascii_serialization());
        write!(f, "TargetUrl({}/…)", origin.unwrap_or_default())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    #[error("must have at most {MAX_URL} characters")]
    TooLong,
    /// No absolute URL with a host.
    #[error("must be an absolute URL such as https://example.com/hooks")]
    NotAbsolute,
    #[error("must begin with https://")]
    Scheme,
    #[error("must not have a user name or password; use a custom header")]
    Credentials,
    /// A fragment.
    #[error("must not have a fragment (#…)")]
    Fragment,
    /// A literal address that must not be called.
    #[error("must not point to a private, local or reserved address")]
    BlockedAddress,
    #[error("must have a port that is allowed here, such as 443")]
    Port,
    /// A host to which no request can be made.
    #[error(
        "must have a host that is an IP address, or a name of labels of 1 to 63 letters, digits and inner hyphens"
    )]
    Host,
    /// A name that is never public.
    #[error("must have a public name: {}", name::NEVER)]
    Name,
}

impl From<BlockedTarget> for InvalidTarget {
    fn from(blocked: BlockedTarget) -> Self {
        match blocked {
            BlockedTarget::Scheme => Self::Scheme,
            BlockedTarget::Port => Self::Port,
            BlockedTarget::Address => Self::BlockedAddress,
            BlockedTarget::Host => Self::Host,
            BlockedTarget::Name => Self::Name,
        }
    }
}

impl TargetUrl {
    /// Takes a URL under `rules`.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(text: &str, rules: &TargetRules) -> Result<Self, InvalidTarget> {
        if text.chars().count() > MAX_URL {
            return Err(InvalidTarget::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(InvalidTarget::NotAbsolute);
        }
        let url = Url::parse(text).map_err(|why| match why {
            ParseError::IdnaError | ParseError::InvalidDomainCharacter => InvalidTarget::Host,
            _ => InvalidTarget::NotAbsolute,
        })?;
        let verdict = rules.check(&url);
        if verdict == Err(BlockedTarget::Scheme) {
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
        verdict?;
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
