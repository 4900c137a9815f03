//! What is wrong with a broker's URL, by part: the whole is a secret and cannot be shown.

use std::net::Ipv6Addr;

use hookline_core::hosts::each_host;
use url::Url;

pub(super) const NO_URL: &str = "must be a URL that begins with amqp:// or amqps://";
const SPACE: &str = "must have no space; one in the user or password is written %20";
const PASSWORD: &str =
    "must have what is special in its user and password escaped: @ / ? # , as %40 %2F %3F %23 %2C";
const USER_TWICE: &str = "must have the user and password once, before the first host: amqp://USER:PASSWORD@a,b \
     (an @ or a comma in the password is written %40 or %2C)";
const NO_HOST: &str = "must have a host";
const EMPTY_HOST: &str = "must have a host before and after each comma";
const PORT: &str = "must have a port from 1 to 65535 behind the colon of a host";
const BRACKETS: &str = "must have an IPv6 address in brackets, such as [::1]:5672";
const FRAGMENT: &str = "must have no fragment; a # in the password is written %23";
const VHOST: &str = "must have one virtual host behind the slash; a / in its name is written %2F";
const ESCAPE: &str = "must have two hexadecimal digits after each %; a % itself is written %25";
const HOST: &str = "must have hosts that are names or IP addresses";

/// Checks a URL of one host, or of several with a comma between.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(SPACE);
    }
    let (scheme, rest) = text.split_once("://").ok_or(NO_URL)?;
    if !["amqp", "amqps"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err(NO_URL);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    let path = behind.split(['?', '#']).next().unwrap_or_default();
    // The value of a parameter may have an @, and a password in front of it would have none.
    let is_cut = !authority.contains('@')
        && behind
            .split('=')
            .next()
            .is_some_and(|part| part.contains('@'));
    if path.contains('@') || is_cut {
        return Err(PASSWORD);
    }
    if behind.contains('#') {
        return Err(FRAGMENT);
    }
    if path.matches('/').count() > 1 {
        return Err(VHOST);
    }
    if !are_escapes(text) {
        return Err(ESCAPE);
    }
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user
        .split_once('@')
        .is_some_and(|(_, more)| more.contains(','))
    {
        return Err(USER_TWICE);
    }
    match hosts.split(',').collect::<Vec<_>>()[..] {
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
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
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
    fn each_fault_has_a_sentence_of_its_own() {
        for (text, wrong) in [
            ("u:p@h", NO_URL),
            ("http://u:p@h", NO_URL),
            ("amqp:h", NO_URL),
            ("amqp://u:p@a, b", SPACE),
            ("amqp://u:p p@a", SPACE),
            ("amqp://u:p@a\n", SPACE),
            ("amqp://u:1,2/p@h/v", PASSWORD),
            ("amqp://u:p?w@h/v", PASSWORD),
            ("amqp://u:p#w@h/v", PASSWORD),
            ("amqp://u:1#w@h", PASSWORD),
            ("amqp://u:1?w@h?heartbeat=5", PASSWORD),
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
            assert_eq!(check(text), Err(wrong), "{text}");
        }
    }

    #[test]
    fn a_url_of_one_host_or_several_is_allowed() {
        for text in [
            "amqp://h",
            "AMQP://h/v",
            "amqps://u:p@broker.example:5671/%2f?cacertfile=/ca@home.pem",
            "amqp://u:p@127.0.0.1:1,[::1]:65535,b/v?heartbeat=5",
            "amqp://h/?heartbeat=5",
            "amqps://h?cacertfile=/ca@home.pem",
            "amqp://u:p,q@a,b",
            "amqp://u:p@q@a",
            "amqp://u:[1,2]@h",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }
}
