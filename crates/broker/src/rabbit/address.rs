//! The broker's URL. What it asks for and this build would silently leave out is refused: a
//! parameter, or an IPv6 host, which lapin's own reader turns into `localhost`.

use std::fmt;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use url::{Host, Url};

use crate::rabbit::RabbitError;

/// Seconds; a peer that was silent for twice as long is dead, however alive its socket looks.
const HEARTBEAT: u16 = 5;

/// What was dialled before a host came back may get no answer for long; the next attempt does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Where the broker is and how we introduce ourselves.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) uri: AMQPUri,
    pub(super) name: String,
    pub(super) connect_timeout: Duration,
    /// Certificates (PEM) that vouch for the broker besides the public ones.
    pub(super) roots: Option<String>,
}

impl Address {
    pub(super) fn parse(url: &str, name: String) -> Result<Self, RabbitError> {
        let refused = RabbitError::Address;
        let parsed = Url::parse(url).map_err(|_| refused("is not a URL"))?;
        if !matches!(parsed.scheme(), "amqp" | "amqps") {
            return Err(refused("must begin with amqp:// or amqps://"));
        }
        let host = match parsed.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(refused("has no host")),
        };
        if parsed.fragment().is_some() {
            return Err(refused("must have no fragment"));
        }
        let mut roots = None;
        for (parameter, value) in parsed.query_pairs() {
            match &*parameter {
                "heartbeat" | "connection_timeout" => {}
                "cacertfile" if parsed.scheme() == "amqps" => {
                    let file = std::fs::read_to_string(&*value);
                    roots = Some(file.map_err(RabbitError::Roots)?);
                }
                "cacertfile" => return Err(refused("has a cacertfile, but is not amqps://")),
                _ => {
                    return Err(refused(
                        "has a parameter other than heartbeat, connection_timeout and cacertfile",
                    ));
                }
            }
        }

        let mut uri: AMQPUri = url
            .parse()
            .map_err(|_| refused("has a part that cannot be read"))?;
        uri.authority.host = host;
        if uri.query.heartbeat == Some(0) {
            return Err(refused(
                "must not switch the heartbeat off: a frozen broker would never be noticed",
            ));
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let connect_timeout = uri
            .query
            .connection_timeout
            .map_or(CONNECT_TIMEOUT, Duration::from_millis);
        Ok(Self {
            uri,
            name,
            connect_timeout,
            roots,
        })
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("host", &self.uri.authority.host)
            .field("port", &self.uri.authority.port)
            .field("vhost", &self.uri.vhost)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, RabbitError> {
        Address::parse(url, "test".into())
    }

    #[test]
    fn a_broker_is_found_by_name_and_by_either_kind_of_address() {
        for (url, host, port) in [
            ("amqp://u:p@broker.example/%2f", "broker.example", 5672),
            ("amqp://u:p@127.0.0.1:1234", "127.0.0.1", 1234),
            ("amqps://u:p@[::1]/%2f", "::1", 5671),
        ] {
            let authority = parse(url).unwrap().uri.authority;
            assert_eq!((authority.host.as_str(), authority.port), (host, port));
        }
    }

    #[test]
    fn a_frozen_broker_is_noticed_unless_the_url_names_another_heartbeat() {
        let heartbeat = |url| parse(url).unwrap().uri.query.heartbeat;
        assert_eq!(heartbeat("amqp://h"), Some(HEARTBEAT));
        assert_eq!(heartbeat("amqp://h?heartbeat=30"), Some(30));
    }

    #[test]
    fn what_the_build_cannot_honour_is_refused_without_showing_the_password() {
        for bad in [
            "",
            "hunter2",
            "http://u:hunter2@h",
            "amqp+ssl://u:hunter2@h",
            "amqp://u:hunter2@",
            "amqp:hunter2",
            "amqp://u:hunter2@h?cacertfile=/hunter2",
            "amqps://u:hunter2@h?verify=verify_none",
            "amqp://u:hunter2@h?heartbeat=0",
            "amqp://u:hunter2@h?heartbeat=soon",
            "amqp://u:hunter2@h#x",
        ] {
            let error = parse(bad).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(matches!(error, RabbitError::Address(_)), "{bad}: {shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
