//! The allowed values of each setting. A message that begins with `must` reads on after `it`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::{Value, ValueKind};
use hookline_core::retry::{InvalidSchedule, RetrySchedule};
use hookline_core::target::IpNet;
use serde::Deserialize as _;
use serde::de::{Deserializer, Error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

use super::secret_url::SecretUrl;
use super::server_url::{self, ServerKind};

/// The header in which a trusted proxy names the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses alone.
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    /// One object a line.
    Json,
}

/// `config` would read `yes` as true, `"5"` as a number and 5 as a text; the validators take no such value.
fn kind<'de, D: Deserializer<'de>>(from: D) -> Result<ValueKind, D::Error> {
    Value::deserialize(from).map(|value| value.kind)
}

pub(super) fn number<'de, const MIN: u64, const MAX: u64, T, D>(from: D) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    let ValueKind::I64(number) = kind(from)? else {
        let allowed = format!("must be a whole number from {MIN} to {MAX}");
        return Err(D::Error::custom(allowed));
    };
    let within = u64::try_from(number)
        .ok()
        .filter(|number| (MIN..=MAX).contains(number));
    let fitting = within.and_then(|number| T::try_from(number).ok());
    fitting.ok_or_else(|| D::Error::custom(format!("must be from {MIN} to {MAX}")))
}

pub(super) fn milliseconds<'de, const MIN: u64, const MAX: u64, D>(
    from: D,
) -> Result<Duration, D::Error>
where
    D: Deserializer<'de>,
{
    number::<MIN, MAX, u64, D>(from).map(Duration::from_millis)
}

pub(super) fn seconds<'de, const MIN: u64, const MAX: u64, D>(from: D) -> Result<Duration, D::Error>
where
    D: Deserializer<'de>,
{
    number::<MIN, MAX, u64, D>(from).map(Duration::from_secs)
}

pub(super) fn boolean<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match kind(from)? {
        ValueKind::Boolean(value) => Ok(value),
        _ => Err(D::Error::custom("must be true or false")),
    }
}

/// A text that `read` accepts.
fn text<'de, T, D: Deserializer<'de>>(
    from: D,
    allowed: &str,
    read: impl FnOnce(String) -> Option<T>,
) -> Result<T, D::Error> {
    match kind(from)? {
        ValueKind::String(text) => read(text),
        _ => None,
    }
    .ok_or_else(|| D::Error::custom(allowed))
}

pub(super) fn listen_address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let allowed = "must be an IP address and a port such as 127.0.0.1:8080";
    text(from, allowed, |text| text.parse().ok())
}

pub(super) fn postgres_url<'de, D: Deserializer<'de>>(from: D) -> Result<SecretUrl, D::Error> {
    url(from, ServerKind::Database)
}

pub(super) fn amqp_url<'de, D: Deserializer<'de>>(from: D) -> Result<SecretUrl, D::Error> {
    url(from, ServerKind::Broker)
}

pub(super) fn http_url<'de, D: Deserializer<'de>>(from: D) -> Result<SecretUrl, D::Error> {
    url(from, ServerKind::Collector)
}

/// A URL may hold a password, so the error names the bad part and never shows it.
fn url<'de, D: Deserializer<'de>>(from: D, server: ServerKind) -> Result<SecretUrl, D::Error> {
    let text = text(from, server.no_url(), Some)?;
    if !text.is_empty() {
        server_url::check(server, &text).map_err(D::Error::custom)?;
    }
    Ok(SecretUrl::new(text))
}

/// A list of which `read` accepts every item.
fn list<'de, T, D: Deserializer<'de>>(
    from: D,
    allowed: &str,
    read: impl Fn(ValueKind) -> Option<T>,
) -> Result<Vec<T>, D::Error> {
    match kind(from)? {
        ValueKind::Array(items) => items.into_iter().map(|item| read(item.kind)).collect(),
        _ => None,
    }
    .ok_or_else(|| D::Error::custom(allowed))
}

fn integer(value: ValueKind) -> Option<i64> {
    match value {
        ValueKind::I64(number) => Some(number),
        _ => None,
    }
}

/// A text that stands for a `T`.
fn parsed<T: std::str::FromStr>(value: &ValueKind) -> Option<T> {
    match value {
        ValueKind::String(text) => text.parse().ok(),
        _ => None,
    }
}

pub(super) fn retry_schedule<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<RetrySchedule, D::Error> {
    let allowed = "must be a list of whole seconds such as [5, 30, 120]";
    list(from, allowed, integer)?
        .into_iter()
        .map(|wait| u32::try_from(wait).map_err(|_| InvalidSchedule::OutOfRange))
        .collect::<Result<Vec<_>, _>>()
        .and_then(RetrySchedule::new)
        .map_err(D::Error::custom)
}

pub(super) fn ports<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[u16]>, D::Error> {
    let allowed = "must be a list of ports from 1 to 65535 such as [443, 8443]";
    let port = |value| integer(value).and_then(|port| u16::try_from(port).ok());
    let ports = list(from, allowed, |value| port(value).filter(|port| *port > 0))?;
    match ports.is_empty() {
        true => Err(D::Error::custom(allowed)),
        false => Ok(ports.into()),
    }
}

/// A network with bits set behind its prefix is a typing error, and one that allows more than was meant.
pub(super) fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[IpNet]>, D::Error> {
    let allowed = "must be a list of networks such as [\"10.20.0.0/16\", \"fd12:3456::/32\"], with zeros behind \
         the prefix";
    let networks = list(from, allowed, |value| {
        parsed(&value).filter(|network: &IpNet| network.trunc() == *network)
    });
    networks.map(Into::into)
}

/// Origins as browsers send them (RFC 6454, 6.2), so that they can be compared byte for byte.
pub(super) fn origins<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[String]>, D::Error> {
    const MAX: usize = 100;
    let allowed = "must be a list of at most 100 exact origins such as [\"https://app.example.com\", \
         \"http://localhost:3000\"], in lower case and without a path";
    let origins = list(from, allowed, |value| {
        let ValueKind::String(text) = value else {
            return None;
        };
        let url = Url::parse(&text).ok()?;
        let is_exact =
            matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text;
        is_exact.then_some(text)
    })?;
    match origins.len() <= MAX {
        true => Ok(origins.into()),
        false => Err(D::Error::custom(allowed)),
    }
}

pub(super) fn name_servers<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    const PORT: u16 = 53;
    let allowed =
        "must be a list of IP addresses, with or without a port, such as [\"10.0.0.2:53\"]";
    list(from, allowed, |value| {
        let without_port = parsed::<IpAddr>(&value);
        let address = without_port.map(|address| SocketAddr::new(address, PORT));
        address.or_else(|| parsed(&value))
    })
}

/// A file that is read later; an empty text means none.
pub(super) fn path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    text(from, "must be the path of a file", |text| {
        Some((!text.is_empty()).then(|| PathBuf::from(text)))
    })
}

pub(super) fn forwarded_header<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<ForwardedHeader, D::Error> {
    let allowed = "must be \"x-forwarded-for\" or \"forwarded\"";
    text(from, allowed, |text| match text.as_str() {
        "x-forwarded-for" => Some(ForwardedHeader::XForwardedFor),
        "forwarded" => Some(ForwardedHeader::Forwarded),
        _ => None,
    })
}

pub(super) fn log_format<'de, D: Deserializer<'de>>(from: D) -> Result<LogFormat, D::Error> {
    let allowed = "must be \"text\" or \"json\"";
    text(from, allowed, |text| match text.as_str() {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    })
}

/// `EnvFilter` takes a mistyped level for the name of a module and then logs nothing, so a word
/// that stands alone must be a level.
pub(super) fn log_level<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let allowed = "must be error, warn, info, debug, trace or off, also by module: \
                   info,hookline_dispatcher=debug";
    text(from, allowed, |text| {
        let words_are_levels = text
            .split(',')
            .map(str::trim)
            .filter(|directive| !directive.contains(['=', '[']))
            .all(|word| !word.is_empty() && word.parse::<LevelFilter>().is_ok());
        (words_are_levels && EnvFilter::try_new(&text).is_ok()).then_some(text)
    })
}
