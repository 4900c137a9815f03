//! A certificate authority of our own, and receivers that show its certificates, or bad ones.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::raw_receiver::read_request;

/// Signs certificates.
pub struct TestCa {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

/// Whether a certificate is still valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// For long yet.
    Valid,
    /// It has ended.
    Expired,
}

impl TestCa {
    /// An authority that no client trusts yet.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        Ok(Self {
            certificate: params.self_signed(&key)?,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's certificate as PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The certificate and key of a server with this name, as PEM.
    pub fn issue(&self, name: &str) -> anyhow::Result<Issued> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![name.to_owned()])?;
        Ok(Issued {
            certificate: certificate.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The certificate and key of a receiver with this name or address.
    pub fn identity(&self, name: &str, validity: Validity) -> anyhow::Result<TlsAcceptor> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        if validity == Validity::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        acceptor(certificate.der(), &key)
    }
}

/// The self-signed certificate of a receiver, with its key.
pub fn self_signed(name: &str) -> anyhow::Result<TlsAcceptor> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![name.to_owned()])?.self_signed(&key)?;
    acceptor(certificate.der(), &key)
}

fn acceptor(certificate: &CertificateDer<'static>, key: &KeyPair) -> anyhow::Result<TlsAcceptor> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Speaks TLS on a connection, reads a request and answers it with 200.
pub async fn answer(shown: TlsAcceptor, connection: TcpStream) -> anyhow::Result<()> {
    let mut connection = shown.accept(connection).await?;
    read_request(&mut connection).await?;
    connection
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await?;
    Ok(connection.shutdown().await?)
}
