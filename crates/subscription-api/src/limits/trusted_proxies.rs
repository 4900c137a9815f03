//! The client's address behind trusted proxies.
//!
//! Only the configured header counts, and only from a trusted proxy. Each proxy appends the address of its client, so
//! the header is read from right to left. The first address that is not a trusted proxy is the client's. The search ends
//! at an invalid entry; then the last trusted address counts.

mod forwarded;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use actix_web::http::header::{self, HeaderMap};
use hookline_core::target::IpNet;
use hookline_runtime::settings::{ApiSettings, ForwardedHeader};

/// The trusted proxies, and the header that they write.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    trusted: Arc<[IpNet]>,
    header: ForwardedHeader,
}

impl From<&ApiSettings> for TrustedProxies {
    fn from(settings: &ApiSettings) -> Self {
        Self {
            trusted: settings.trusted_proxies.clone(),
            header: settings.forwarded_header,
        }
    }
}

impl TrustedProxies {
    pub(crate) fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.is_trusted(client) {
            return client;
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => header::X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        // A byte that is not ASCII makes its entry invalid, but not the entries that proxies append.
        let lines: Vec<_> = headers
            .get_all(name)
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        for line in lines.into_iter().rev() {
            for address in self.addresses(&line) {
                let Some(address) = address else {
                    return client;
                };
                client = address;
                if !self.is_trusted(client) {
                    return client;
                }
            }
        }
        client
    }

    /// The addresses of a line from right to left; None for an invalid entry.
    fn addresses(&self, line: &str) -> Vec<Option<IpAddr>> {
        match self.header {
            ForwardedHeader::XForwardedFor => line.rsplit(',').map(address).collect(),
            ForwardedHeader::Forwarded => forwarded::nodes(line)
                .into_iter()
                .map(|node| address(&node?))
                .collect(),
        }
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// Parses an IP address, with or without brackets and a port. Proxies write all of these forms.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => IpAddr::V6(bare.parse().ok()?),
        None => match text.parse::<SocketAddr>() {
            Ok(with_port) => with_port.ip(),
            Err(_) => text.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn proxies(header: ForwardedHeader) -> TrustedProxies {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        TrustedProxies {
            trusted: trusted.into(),
            header,
        }
    }

    fn client(proxies: &TrustedProxies, peer: &str, lines: &[(&str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            let name = HeaderName::try_from(*name).unwrap();
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        proxies
            .client_address(peer.parse().unwrap(), &headers)
            .to_string()
    }

    #[test]
    fn a_header_counts_only_from_a_trusted_proxy() {
        let proxies = proxies(ForwardedHeader::XForwardedFor);
        let lines = [("x-forwarded-for", "192.0.2.1")];
        assert_eq!(client(&proxies, "10.0.0.1", &lines), "192.0.2.1");
        assert_eq!(client(&proxies, "::ffff:10.0.0.1", &lines), "192.0.2.1");
        assert_eq!(client(&proxies, "198.51.100.7", &lines), "198.51.100.7");
        assert_eq!(
            client(&TrustedProxies::default(), "10.0.0.1", &lines),
            "10.0.0.1"
        );
        assert_eq!(client(&proxies, "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn the_first_address_from_the_right_that_is_not_a_trusted_proxy_is_the_client() {
        let proxies = proxies(ForwardedHeader::XForwardedFor);
        for (lines, expected) in [
            (&["203.0.113.9, 192.0.2.1"][..], "192.0.2.1"),
            (&["203.0.113.9, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
            (&["203.0.113.9", "192.0.2.1 ,10.0.0.2"], "192.0.2.1"),
            (&["203.0.113.9, 192.0.2.1", "10.0.0.2"], "192.0.2.1"),
            (&["é, 192.0.2.1"], "192.0.2.1"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:192.0.2.1, fd00::2"], "192.0.2.1"),
        ] {
            let lines: Vec<_> = lines
                .iter()
                .map(|line| ("X-Forwarded-For", *line))
                .collect();
            assert_eq!(client(&proxies, "10.0.0.1", &lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn an_invalid_entry_ends_the_search_at_the_last_trusted_address() {
        let x_forwarded_for = proxies(ForwardedHeader::XForwardedFor);
        for (line, expected) in [
            ("192.0.2.1, unknown", "10.0.0.1"),
            ("192.0.2.1, , 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1, host.example, 10.0.0.2", "10.0.0.2"),
            ("", "10.0.0.1"),
            ("192.0.2.1;10.0.0.2", "10.0.0.1"),
            ("[192.0.2.1]", "10.0.0.1"),
        ] {
            let lines = [("x-forwarded-for", line)];
            assert_eq!(
                client(&x_forwarded_for, "10.0.0.1", &lines),
                expected,
                "{line}"
            );
        }
        let forwarded = proxies(ForwardedHeader::Forwarded);
        for (line, expected) in [
            ("for=192.0.2.1, for=_hidden", "10.0.0.1"),
            ("for=192.0.2.1, for=unknown, for=10.0.0.2", "10.0.0.2"),
            ("for=192.0.2.1, proto=https", "10.0.0.1"),
            ("for=\"192.0.2.1, for=10.0.0.2", "10.0.0.2"),
            ("for=a b, for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
            ("for=192.0.2.1, for=[::1, for=\"[fd00::2]:1\"", "fd00::2"),
        ] {
            let lines = [("forwarded", line)];
            assert_eq!(client(&forwarded, "10.0.0.1", &lines), expected, "{line}");
        }
    }

    #[test]
    fn only_the_configured_header_counts() {
        let lines = [
            ("x-forwarded-for", "203.0.113.9"),
            ("forwarded", "for=192.0.2.60;proto=http;by=203.0.113.43"),
            ("x-real-ip", "198.51.100.1"),
        ];
        let by_forwarded = proxies(ForwardedHeader::Forwarded);
        assert_eq!(client(&by_forwarded, "10.0.0.1", &lines), "192.0.2.60");
        let by_x = proxies(ForwardedHeader::XForwardedFor);
        assert_eq!(client(&by_x, "10.0.0.1", &lines), "203.0.113.9");
        let quoted = [(
            "forwarded",
            "for=192.0.2.43, For=\"[2001:db8:cafe::17]:4711\"",
        )];
        assert_eq!(
            client(&by_forwarded, "fd00::1", &quoted),
            "2001:db8:cafe::17"
        );
    }
}
