//! Where a subscription may point: rules for the URL as it is written, and for the addresses that
//! it leads to.
//!
//! A resolver is never asked for a literal, so a literal is judged here, in every spelling that
//! the URL standard knows (`127.1`, `0x7f000001`, `[::ffff:127.0.0.1]`). Of a name it is judged here whether it
//! can lead anywhere; the dispatcher judges its addresses when it has resolved the name.

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

/// Which targets are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetRules {
    /// Which schemes.
    pub schemes: Schemes,
    /// Which networks.
    pub networks: Networks,
    /// Which ports.
    pub ports: Ports,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Networks {
    /// Global unicast, and these besides: for those who deliver inside.
    PublicAnd(Arc<[IpNet]>),
    /// Any, for trying things out.
    Any,
}

impl Default for Networks {
    fn default() -> Self {
        Self::PublicAnd(Arc::default())
    }
}

/// Which ports a target may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// These; and 80 for `http`, where that is allowed.
    These(Arc<[u16]>),
    /// Any, for trying things out.
    Any,
}

impl Default for Ports {
    fn default() -> Self {
        Self::These(Arc::new([443]))
    }
}

/// What the rules have against a URL. The addresses of names are judged when they have been resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// Its scheme.
    #[error("the URL has a scheme that must not be called")]
    Scheme,
    /// Its port.
    #[error("the URL has a port that must not be called")]
    Port,
    /// Its literal address.
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
    /// What `hookline dev` allows: receivers on one's own machine.
    pub const DEV: TargetRules = TargetRules {
        schemes: Schemes::HttpToo,
        networks: Networks::Any,
        ports: Ports::Any,
    };

    /// Whether an address may be dialled.
    pub fn allow(&self, address: IpAddr) -> bool {
        match &self.networks {
            Networks::Any => true,
            Networks::PublicAnd(besides) => {
                is_public(address) || besides.iter().any(|network| network.contains(&address))
            }
        }
    }

    /// Judges a URL before it is stored, and again before it is called: the rules may have changed.
    ///
    /// # Errors
    /// [`Blocked`], the first rule that it breaks.
    pub fn judge(&self, url: &Url) -> Result<(), Blocked> {
        let (allowed_scheme, usual_port) = match url.scheme() {
            "https" => (true, 443),
            "http" => (self.schemes == Schemes::HttpToo, 80),
            _ => (false, 0),
        };
        if !allowed_scheme {
            return Err(Blocked::Scheme);
        }
        let allowed_address = match url.host() {
            Some(Host::Ipv4(address)) => self.allow(address.into()),
            Some(Host::Ipv6(address)) => self.allow(address.into()),
            Some(Host::Domain(name)) => {
                name::judge(name, &self.networks)?;
                true
            }
            None => false,
        };
        if !allowed_address {
            return Err(Blocked::Address);
        }
        let port = url.port().unwrap_or(usual_port);
        let allowed_port = match &self.ports {
            Ports::Any => true,
            Ports::These(ports) => ports.contains(&port) || (url.scheme(), port) == ("http", 80),
        };
        match allowed_port {
            true => Ok(()),
            false => Err(Blocked::Port),
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
    /// A port that is not allowed.
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

impl From<Blocked> for InvalidTarget {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::Scheme => Self::Scheme,
            Blocked::Port => Self::Port,
            Blocked::Address => Self::BlockedAddress,
            Blocked::Host => Self::Host,
            Blocked::Name => Self::Name,
        }
    }
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
        let url = Url::parse(text).map_err(|why| match why {
            ParseError::IdnaError | ParseError::InvalidDomainCharacter => InvalidTarget::Host,
            _ => InvalidTarget::NotAbsolute,
        })?;
        let verdict = rules.judge(&url);
        if verdict == Err(Blocked::Scheme) {
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
