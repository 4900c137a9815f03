//! TLS to PostgreSQL. The bundled libpq is built without TLS, because that needs OpenSSL, a second TLS library that needs
//! Perl for its build. Instead libpq connects to a Unix socket of this process, in a folder of this user only, and a tunnel
//! forwards the bytes to the server through rustls, like all other TLS of Hookline.
//!
//! The URL uses libpq's parameters `sslmode=verify-full` and `sslrootcert`. Modes that verify less are refused: they do not
//! protect against an active attacker.

mod greeting;
mod tunnel;

use std::path::Path;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use url::Url;

pub(super) use tunnel::Tunnel;

const DEFAULT_PORT: u16 = 5432;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    #[error("sslmode must be disable or verify-full")]
    Mode,
    #[error("sslmode=verify-full needs a URL with one host")]
    Host,
    #[error("sslmode=verify-full needs sslrootcert: a file of certificates (PEM), or system")]
    NoRoots,
    #[error("sslrootcert: {0}")]
    Roots(String),
    #[error("no socket for the way to the database: {0}")]
    Socket(String),
}

/// The URL for libpq, and the tunnel behind it.
pub(super) struct TlsRoute {
    pub(super) url: String,
    /// Must live as long as the connections.
    pub(super) tunnel: Option<Tunnel>,
}

/// Connects with the first use, not here.
pub(super) fn open(url: &str) -> Result<TlsRoute, InvalidDatabaseUrl> {
    let mode = parameter(url, "sslmode");
    if matches!(mode.as_deref(), None | Some("disable")) {
        return Ok(TlsRoute {
            url: url.to_owned(),
            tunnel: None,
        });
    }
    if mode.as_deref() != Some("verify-full") {
        return Err(InvalidDatabaseUrl::Mode);
    }
    let mut url = Url::parse(url).map_err(|_| InvalidDatabaseUrl::Host)?;
    let host = url.host_str().unwrap_or_default();
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| InvalidDatabaseUrl::Host)?;
    let roots = parameter(url.as_str(), "sslrootcert").ok_or(InvalidDatabaseUrl::NoRoots)?;
    let server = tunnel::TlsServer {
        port: url.port().unwrap_or(DEFAULT_PORT),
        connector: TlsConnector::from(Arc::new(verifying(&roots)?)),
        host,
        name,
    };
    let tunnel = Tunnel::start(server, DEFAULT_PORT)
        .map_err(|why| InvalidDatabaseUrl::Socket(why.to_string()))?;

    let folder = tunnel.folder().to_string_lossy();
    let folder = utf8_percent_encode(&folder, NON_ALPHANUMERIC).to_string();
    let others: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| !matches!(&**name, "sslmode" | "sslrootcert"))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(others);
    let moved = url.set_host(Some(&folder)).is_ok() && url.set_port(Some(DEFAULT_PORT)).is_ok();
    match moved {
        true => Ok(TlsRoute {
            url: url.into(),
            tunnel: Some(tunnel),
        }),
        false => Err(InvalidDatabaseUrl::Host),
    }
}

fn parameter(url: &str, wanted: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| value.into_owned())
}

fn verifying(roots: &str) -> Result<ClientConfig, InvalidDatabaseUrl> {
    let unreadable = |why: &dyn std::fmt::Display| InvalidDatabaseUrl::Roots(why.to_string());
    let certificates = match roots {
        "system" => rustls_native_certs::load_native_certs().certs,
        file => CertificateDer::pem_file_iter(Path::new(file))
            .and_then(Iterator::collect)
            .map_err(|why| unreadable(&why))?,
    };
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(unreadable(&"no certificate is in it"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| unreadable(&why))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> InvalidDatabaseUrl {
        open(url).err().unwrap()
    }

    #[test]
    fn a_url_without_tls_stays_as_it_is() {
        for url in [
            "postgres://u:p@h/db",
            "postgres://h/db?sslmode=disable&connect_timeout=1",
        ] {
            let way = open(url).unwrap();
            assert_eq!((way.url.as_str(), way.tunnel.is_none()), (url, true));
        }
    }

    #[test]
    fn what_is_not_verified_is_refused() {
        for mode in ["allow", "prefer", "require", "verify-ca", ""] {
            assert_eq!(
                refused(&format!("postgres://h/db?sslmode={mode}")),
                InvalidDatabaseUrl::Mode
            );
        }
        assert_eq!(
            refused("postgres://h/db?sslmode=verify-full"),
            InvalidDatabaseUrl::NoRoots
        );
        for several in ["postgres:///db", "postgres://a,b/db"] {
            let url = format!("{several}?sslmode=verify-full&sslrootcert=system");
            assert_eq!(refused(&url), InvalidDatabaseUrl::Host);
        }
    }

    #[test]
    fn nobody_vouches_for_a_server_from_an_empty_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/nowhere.pem")] {
            let url = format!(
                "postgres://h/db?sslmode=verify-full&sslrootcert={}",
                path.display()
            );
            assert!(matches!(refused(&url), InvalidDatabaseUrl::Roots(_)));
        }
    }
}
