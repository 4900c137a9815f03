//! Checks of server URLs. An error names the bad part: the URL may hold a password and is not shown.

use std::net::Ipv6Addr;

use hookline_core::hosts::each_host;
use url::Url;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerKind {
    /// PostgreSQL. The host may be missing: libpq also connects to a socket.
    Database,
    Broker,
    Collector,
}

impl ServerKind {
    fn has_scheme(self, scheme: &str) -> bool {
        let scheme = scheme.to_ascii_lowercase();
        match self {
            Self::Database => matches!(scheme.as_str(), "postgres" | "postgresql"),
            Self::Broker => matches!(scheme.as_str(), "amqp" | "amqps"),
            Self::Collector => matches!(scheme.as_str(), "http" | "https"),
        }
    }

    /// The error for a text that is no URL of such a server.
    pub(super) fn no_url(self) -> &'static str {
        match self {
            Self::Database => "must be a URL that begins with postgres://",
            Self::Broker => "must be a URL that begins with amqp:// or amqps://",
            Self::Collector => "must be a URL that begins with http:// or https://",
        }
    }
}

/// A message that ends with the escapes of a password.
macro_rules! encoded {
    ($message:literal) => {
        concat!(
            $message,
            "; in the user and the password, % is written %25, @ %40, / %2F, \\ %5C, ? %3F, # %23, \
             : %3A, a comma %2C and a space %20"
        )
    };
}

const SPACE: &str = encoded!("must have no space and no control character");
const PASSWORD: &str = encoded!(
    "must have one @ at most, before the host, and what is special in its user, its password and \
     its parameters percent-encoded"
);
const FRAGMENT: &str = encoded!("must have no fragment");
const ESCAPE: &str = encoded!("must have two hexadecimal digits after each %, and not %00");
const USER_TWICE: &str = "must have the user and password once, before the first host: USER:PASSWORD@a,b \
     (an @ or a comma in the password is written %40 or %2C)";
const NO_HOST: &str = "must have a host";
const EMPTY_HOST: &str = "must have a host before and after each comma";
const PORT: &str = encoded!("must have a port from 1 to 65535 behind the colon of a host");
const BRACKETS: &str = "must have an IPv6 address in brackets, such as [::1]:5672";
const VHOST: &str = "must have one virtual host behind the slash; a / in its name is written %2F";
const HOST: &str = "must have hosts that are names or IP addresses";

/// Checks a URL of one host, or of several with a comma between. In a URL that passes, the password stands between
/// the first colon and the only @. No library then reads part of it as a host, path or parameter, which libraries
/// show in their errors.
pub(super) fn check(server: ServerKind, text: &str) -> Result<(), &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or(server.no_url())?;
    if !server.has_scheme(scheme) {
        return Err(server.no_url());
    }
    if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(SPACE);
    }
    // In http:// URLs, a \ is read as a slash.
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    if behind.contains(['@', '\\']) {
        return Err(PASSWORD);
    }
    match user.split_once('@') {
        Some((_, more)) if more.contains(',') => return Err(USER_TWICE),
        Some(_) => return Err(PASSWORD),
        None => {}
    }
    if behind.contains('#') {
        return Err(FRAGMENT);
    }
    let path = behind.split('?').next().unwrap_or_default();
    if server == ServerKind::Broker && path.matches('/').count() > 1 {
        return Err(VHOST);
    }
    if !are_escapes(text) {
        return Err(ESCAPE);
    }
    match hosts.split(',').collect::<Vec<_>>()[..] {
        [""] if server == ServerKind::Database => return Ok(()),
        [""] => return Err(NO_HOST),
        ref hosts if hosts.contains(&"") => return Err(EMPTY_HOST),
        ref hosts => hosts.iter().try_for_each(|host| check_host(host))?,
    }
    let is_readable = |one: &String| Url::parse(one).is_ok_and(|url| url.has_host());
    match each_host(text).iter().all(is_readable) {
        true => Ok(()),
        false => Err(HOST),
    }
}

fn are_escapes(text: &str) -> bool {
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00";
    text.split('%').skip(1).all(|behind| {
        let digits = behind.as_bytes().get(..2);
        digits.is_some_and(is_hex)
    })
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']').ok_or(BRACKETS)?;
            address.parse::<Ipv6Addr>().map_err(|_| BRACKETS)?;
            (address, port)
        }
        None if host.matches(':').count() > 1 => return Err(BRACKETS),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    match port.strip_prefix(':') {
        _ if name.is_empty() => Err(NO_HOST),
        None if port.is_empty() => Ok(()),
        Some(port) if port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(()),
        _ => Err(PORT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_a_message_of_its_own() {
        for (text, wrong) in [
            ("u:p@h", ServerKind::Broker.no_url()),
            ("http://u:p@h", ServerKind::Broker.no_url()),
            ("amqp:h", ServerKind::Broker.no_url()),
            ("amqp://u:p@a, b", SPACE),
            ("amqp://u:p p@a", SPACE),
            ("amqp://u:p@a\n", SPACE),
            ("amqp://u:1,2/p@h/v", PASSWORD),
            ("amqp://u:p?w@h/v", PASSWORD),
            ("amqp://u:p#w@h/v", PASSWORD),
            ("amqp://u:1#w@h", PASSWORD),
            ("amqp://u:1?w@h?heartbeat=5", PASSWORD),
            ("amqp://u:p@q@h", PASSWORD),
            ("amqp://u:p@q?w=@h", PASSWORD),
            ("amqp://u:a%00b@h", ESCAPE),
            ("amqp://u:p@h/v#w", FRAGMENT),
            ("amqp://u:p@h/a/b", VHOST),
            ("amqp://u:p@h//", VHOST),
            ("amqp://u:p@h/%zz", ESCAPE),
            ("amqp://u:50%@h", ESCAPE),
            ("amqp://u:p@h/v%2", ESCAPE),
            ("amqp://u:p@h/%+1", ESCAPE),
            ("amqp://u:p@a,u:p@b", USER_TWICE),
            ("amqp://u:p@a:5672,u:p@b:5672/v", USER_TWICE),
            ("amqp://", NO_HOST),
            ("amqp:///v", NO_HOST),
            ("amqp://u:p@/v", NO_HOST),
            ("amqp://u:p@:5672/v", NO_HOST),
            ("amqp://u:p@a,:5672/v", NO_HOST),
            ("amqp://u:p@a,/v", EMPTY_HOST),
            ("amqp://u:p@,a/v", EMPTY_HOST),
            ("amqp://u:p@a,,b/v", EMPTY_HOST),
            ("amqp://u:p@a:0/v", PORT),
            ("amqp://u:p@a,b:0/v", PORT),
            ("amqp://u:p@a:65536", PORT),
            ("amqp://u:p@a:port", PORT),
            ("amqp://u:p@a:", PORT),
            ("amqp://u:p@[::1]5672", PORT),
            ("amqp://u:p@[::1]:0", PORT),
            ("amqp://u:p@::1", BRACKETS),
            ("amqp://u:p@fd12::1:5672/v", BRACKETS),
            ("amqp://u:p@a,::1/v", BRACKETS),
            ("amqp://u:p@[::1", BRACKETS),
            ("amqp://u:p@[a]:5672", BRACKETS),
            ("amqp://u:p@a|b", HOST),
        ] {
            assert_eq!(check(ServerKind::Broker, text), Err(wrong), "{text}");
        }
    }

    #[test]
    fn a_url_of_one_host_or_several_is_allowed() {
        for text in [
            "amqp://h",
            "AMQP://h/v",
            "amqps://u:p@broker.example:5671/%2f?cacertfile=/ca%40home.pem",
            "amqp://u:p@127.0.0.1:1,[::1]:65535,b/v?heartbeat=5",
            "amqp://h/?heartbeat=5",
            "amqp://u:p,q@a,b",
            "amqp://u:p%40q@a",
            "amqp://u:[1,2]@h",
        ] {
            assert_eq!(check(ServerKind::Broker, text), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_database_may_have_a_socket_and_a_collector_any_path() {
        for (server, text) in [
            (ServerKind::Database, "postgres:///db?host=/run/postgresql"),
            (
                ServerKind::Database,
                "postgresql://u:p@%2Frun%2Fpostgresql/db",
            ),
            (
                ServerKind::Database,
                "postgres://u:p@a:5432,[::1]:5433/db?sslmode=disable",
            ),
            (ServerKind::Collector, "https://u:p@h:4318/a/b?c=d"),
        ] {
            assert_eq!(check(server, text), Ok(()), "{text}");
        }
        for (server, text, wrong) in [
            (
                ServerKind::Database,
                "host=h password=p",
                ServerKind::Database.no_url(),
            ),
            (ServerKind::Database, "postgres://u:p%zz@h/db", ESCAPE),
            (ServerKind::Database, "postgres://u:a/p@h/db", PASSWORD),
            (ServerKind::Database, "postgres://u:a@p@h/db", PASSWORD),
            (ServerKind::Database, "postgres://u:a#p@h/db", PASSWORD),
            (ServerKind::Database, "postgres://u:a@h/db#p", FRAGMENT),
            (ServerKind::Database, "postgres://h:u:p/db", BRACKETS),
            (ServerKind::Collector, "http:///path", NO_HOST),
            (ServerKind::Collector, "http://u:1/p@h", PASSWORD),
            (
                ServerKind::Collector,
                "postgres://h",
                ServerKind::Collector.no_url(),
            ),
        ] {
            assert_eq!(check(server, text), Err(wrong), "{text}");
        }
    }
}
