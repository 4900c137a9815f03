//! What each setting may be. An error begins with `must`, or says what is expected as it reads
//! after `it must be`.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::retry::{InvalidSchedule, RetrySchedule};
use hookline_core::target::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::server_url::{self, Server};
use super::{ForwardedHeader, LogFormat, SecretUrl};

pub(super) fn number<'de, const MIN: u64, const MAX: u64, T, D>(from: D) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    from.deserialize_any(Range::<MIN, MAX, T>(PhantomData))
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

struct Range<const MIN: u64, const MAX: u64, T>(PhantomData<T>);

impl<const MIN: u64, const MAX: u64, T: TryFrom<u64>> Visitor<'_> for Range<MIN, MAX, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        let within = (MIN..=MAX).contains(&value);
        let fitting = within.then(|| T::try_from(value).ok()).flatten();
        fitting.ok_or_else(|| {
            let range = format!("from {MIN} to {MAX}");
            E::invalid_value(Unexpected::Unsigned(value), &range.as_str())
        })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        // A negative number is as far out of range as 2^64 - 1.
        self.visit_u64(u64::try_from(value).unwrap_or(u64::MAX))
    }
}

/// A text that `read` can make something of; `allowed` says which ones.
fn text<'de, T, D: Deserializer<'de>>(
    from: D,
    allowed: &str,
    read: impl FnOnce(String) -> Option<T>,
) -> Result<T, D::Error> {
    let text = String::deserialize(from).ok();
    text.and_then(read).ok_or_else(|| D::Error::custom(allowed))
}

pub(super) fn listen_address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let allowed = "must be an IP address and a port such as 127.0.0.1:8080";
    text(from, allowed, |text| text.parse().ok())
}

pub(super) fn postgres_url<'de, D: Deserializer<'de>>(from: D) -> Result<SecretUrl, D::Error> {
    url(from, Server::Database)
}

pub(super) fn amqp_url<'de, D: Deserializer<'de>>(from: D) -> Result<SecretUrl, D::Error> {
    url(from, Server::Broker)
}

pub(super) fn http_url<'de, D: Deserializer<'de>>(from: D) -> Result<SecretUrl, D::Error> {
    url(from, Server::Collector)
}

/// It may have a password, so an error says which part is wrong and never shows that part.
fn url<'de, D: Deserializer<'de>>(from: D, server: Server) -> Result<SecretUrl, D::Error> {
    let text = String::deserialize(from).map_err(|_| D::Error::custom(server.no_url()))?;
    if !text.is_empty() {
        server_url::check(server, &text).map_err(D::Error::custom)?;
    }
    Ok(SecretUrl::new(text))
}

pub(super) fn retry_schedule<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<RetrySchedule, D::Error> {
    let waits = Vec::<i64>::deserialize(from)
        .map_err(|_| D::Error::custom("must be a list of whole seconds such as [5, 30, 120]"))?;
    waits
        .into_iter()
        .map(|wait| u32::try_from(wait).map_err(|_| InvalidSchedule::OutOfRange))
        .collect::<Result<Vec<_>, _>>()
        .and_then(RetrySchedule::new)
        .map_err(D::Error::custom)
}

/// A list whose every item `read` can make something of.
fn list<'de, I: Deserialize<'de>, T, D: Deserializer<'de>>(
    from: D,
    allowed: &str,
    read: impl Fn(I) -> Option<T>,
) -> Result<Vec<T>, D::Error> {
    let items = Vec::<I>::deserialize(from).ok();
    let read_all = |items: Vec<I>| items.into_iter().map(read).collect();
    items
        .and_then(read_all)
        .ok_or_else(|| D::Error::custom(allowed))
}

pub(super) fn ports<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[u16]>, D::Error> {
    let allowed = "must be a list of ports from 1 to 65535 such as [443, 8443]";
    let ports = list(from, allowed, |port: i64| {
        u16::try_from(port).ok().filter(|port| *port > 0)
    })?;
    match ports.is_empty() {
        true => Err(D::Error::custom(allowed)),
        false => Ok(ports.into()),
    }
}

/// A network whose address goes on behind its prefix is a typing error, and one that lets in more
/// than was meant.
pub(super) fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[IpNet]>, D::Error> {
    let allowed = "must be a list of networks such as [\"10.20.0.0/16\", \"fd12:3456::/32\"], with zeros behind \
         the prefix";
    let networks = list(from, allowed, |text: String| {
        let network: IpNet = text.parse().ok()?;
        (network.trunc() == network).then_some(network)
    });
    networks.map(Into::into)
}

pub(super) fn name_servers<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    const PORT: u16 = 53;
    let allowed =
        "must be a list of IP addresses, with or without a port, such as [\"10.0.0.2:53\"]";
    list(from, allowed, |text: String| {
        let address = text.parse::<IpAddr>();
        let with_port = address.map(|address| SocketAddr::new(address, PORT));
        with_port.or_else(|_| text.parse()).ok()
    })
}

/// A file that is read later; no text stands for none.
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
    text(from, "must be \"text\" or \"json\"", |text| {
        match text.as_str() {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        }
    })
}

/// `EnvFilter` takes a mistyped level for the name of a module and then logs nothing, so a word
/// that stands alone has to be a level.
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
