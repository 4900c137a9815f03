//! The broker's URL. A parameter that this build would silently ignore is refused. The host is parsed here, because lapin's
//! own parser turns an IPv6 host into `localhost`.

use std::fmt;
use std::time::Duration;

use hookline_core::hosts::each_host;
use lapin::uri::AMQPUri;
use url::{Host, Url};

use crate::error::RabbitError;

/// Seconds. A peer that is silent for twice as long counts as dead, even if its socket is open.
const HEARTBEAT: u16 = 5;

/// A connection that was dialled before a host came back may get no answer for long; the next attempt does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// The hosts of the broker, and the name of the connection.
#[derive(Clone)]
pub(crate) struct BrokerUrl {
    /// The nodes of a cluster, which differ in host and port only; at least one.
    pub(crate) hosts: Vec<AMQPUri>,
    pub(crate) name: String,
    pub(crate) connect_timeout: Duration,
    /// Certificates (PEM) that vouch for the broker besides the public ones.
    pub(crate) roots: Option<String>,
}

impl BrokerUrl {
    /// Parses a URL of one host, or of several with a comma between.
    pub(crate) fn parse(url: &str, name: String) -> Result<Self, RabbitError> {
        let refused = RabbitError::Url;
        let urls = each_host(url);
        let hosts: Vec<AMQPUri> = urls.iter().map(|one| host(one)).collect::<Result<_, _>>()?;
        let (Some(first), Some(uri)) = (urls.first(), hosts.first()) else {
            return Err(refused("has no host"));
        };
        let roots = parameters(&Url::parse(first).map_err(|_| refused("is not a URL"))?)?;
        let connect_timeout = uri
            .query
            .connection_timeout
            .map_or(CONNECT_TIMEOUT, Duration::from_millis);
        Ok(Self {
            connect_timeout,
            hosts,
            name,
            roots,
        })
    }
}

/// Checks a broker URL without dialling.
///
/// # Errors
/// [`RabbitError`] that trying again does not mend.
pub fn check_url(url: &str) -> Result<(), RabbitError> {
    BrokerUrl::parse(url, String::new()).map(drop)
}

/// The name of a host in errors and log lines.
pub(crate) fn host_and_port(uri: &AMQPUri) -> String {
    let (host, port) = (&uri.authority.host, uri.authority.port);
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn host(url: &str) -> Result<AMQPUri, RabbitError> {
    let refused = RabbitError::Url;
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
    // Else a part of the password would be taken for a host, and shown.
    if parsed.path().contains('@') {
        return Err(refused("must have what is special in its password escaped"));
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
    Ok(uri)
}

/// Refuses unknown parameters, and reads the file of certificates.
fn parameters(url: &Url) -> Result<Option<String>, RabbitError> {
    let refused = RabbitError::Url;
    let mut roots = None;
    for (parameter, value) in url.query_pairs() {
        match &*parameter {
            "heartbeat" | "connection_timeout" => {}
            "cacertfile" if url.scheme() == "amqps" => {
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
    Ok(roots)
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(host_and_port).collect();
        f.debug_struct("BrokerUrl")
            .field("hosts", &hosts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<BrokerUrl, RabbitError> {
        BrokerUrl::parse(url, "test".into())
    }

    #[test]
    fn a_host_is_a_name_or_an_address_of_either_kind() {
        for (url, host, port) in [
            ("amqp://u:p@broker.example/%2f", "broker.example", 5672),
            ("amqp://u:p@127.0.0.1:1234", "127.0.0.1", 1234),
            ("amqps://u:p@[::1]/%2f", "::1", 5671),
        ] {
            let authority = &parse(url).unwrap().hosts[0].authority;
            assert_eq!((authority.host.as_str(), authority.port), (host, port));
        }
    }

    #[test]
    fn a_url_may_have_several_hosts_that_share_the_rest() {
        let url = "amqp://u:p,q@a.example:1234,b.example,[::1]:9/%2f?heartbeat=7";
        let hosts = parse(url).unwrap().hosts;
        let names: Vec<String> = hosts.iter().map(host_and_port).collect();
        assert_eq!(names, ["a.example:1234", "b.example:5672", "[::1]:9"]);
        for host in hosts {
            assert_eq!(host.authority.userinfo.password, "p,q");
            assert_eq!((host.vhost.as_str(), host.query.heartbeat), ("/", Some(7)));
        }
        let tls = parse("amqps://a,b").unwrap().hosts;
        assert!(tls.iter().all(|host| host.authority.port == 5671));
    }

    #[test]
    fn the_heartbeat_is_five_seconds_unless_the_url_names_another() {
        let heartbeat = |url| parse(url).unwrap().hosts[0].query.heartbeat;
        assert_eq!(heartbeat("amqp://h"), Some(HEARTBEAT));
        assert_eq!(heartbeat("amqp://h?heartbeat=30"), Some(30));
    }

    #[test]
    fn a_url_that_the_build_cannot_honour_is_refused_without_showing_the_password() {
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
            "amqp://u:hunter2@a,,b",
            "amqp://u:hunter2@a,b:port",
            "amqp://u:hunter2@a:1,b:2?heartbeat=0",
            "amqp://u:1,2/hunter2@h",
        ] {
            let error = parse(bad).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(matches!(error, RabbitError::Url(_)), "{bad}: {shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
