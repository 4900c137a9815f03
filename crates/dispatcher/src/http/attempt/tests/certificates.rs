use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

/// The certificate chain and the key of a receiver.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params
}

impl Authority {
    fn new(name: &str, above: Option<&Authority>) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = match above {
            Some(above) => params.signed_by(&key, &above.issuer),
            None => params.self_signed(&key),
        }
        .unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn signed(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = params("receiver");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            key: pkcs8(&key),
        }
    }
}

fn pkcs8(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

fn self_signed(is_ca: IsCa) -> (Identity, String) {
    let mut params = params("receiver");
    params.is_ca = is_ca;
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let identity = Identity {
        chain: vec![certificate.der().clone()],
        key: pkcs8(&key),
    };
    (identity, certificate.pem())
}

/// An attempt at a receiver with this identity, by a requester that trusts these certificates.
async fn shown(identity: Identity, trusted: &str) -> AttemptOutcome {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), trusted).unwrap();
    let requester = requester(Some(file.path().to_owned()));
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let port = receiver(move |connection| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut connection) = acceptor.accept(connection).await else {
                return;
            };
            read_request(&mut connection).await;
            let _ = connection
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await;
        }
    });
    attempt(&requester, &format!("https://127.0.0.1:{}/", port.await)).await
}

async fn ensure(identity: Identity, trusted: &str, expected: &str) {
    let (kind, message) = failure(shown(identity, trusted).await);
    assert_eq!(kind, FailureKind::Tls, "{message}");
    assert!(message.contains(expected), "{message}");
    for rust in ["Context", "Other(", "Error", "DnsName", "{", "["] {
        assert!(!message.contains(rust), "{message}");
    }
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_a_success() {
    let ca = Authority::new("ca", None);
    assert!(shown(ca.signed(|_| {}), &ca.pem).await.is_success());
    let (identity, pem) = self_signed(IsCa::NoCa);
    assert!(shown(identity, &pem).await.is_success());
}

#[tokio::test]
async fn a_certificate_outside_its_validity_is_named_with_the_time() {
    let ca = Authority::new("ca", None);
    let expired = ca.signed(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    ensure(
        expired,
        &ca.pem,
        "expired at 2021-01-01T00:00:00Z: renew it",
    )
    .await;
    let early = ca.signed(|params| params.not_before = date_time_ymd(2999, 1, 1));
    ensure(early, &ca.pem, "is not valid before 2999-01-01T00:00:00Z").await;
}

#[tokio::test]
async fn a_certificate_of_another_name_is_named_with_the_names_that_it_has() {
    let ca = Authority::new("ca", None);
    let other = ca.signed(|params| {
        params.subject_alt_names = CertificateParams::new(vec!["other.example".into()])
            .unwrap()
            .subject_alt_names;
    });
    ensure(
        other,
        &ca.pem,
        "is not for the host of the subscription's URL, but for other.example:",
    )
    .await;
}

#[tokio::test]
async fn an_untrusted_issuer_a_missing_intermediate_and_a_self_signed_certificate_are_told_apart() {
    let (known, unknown) = (
        Authority::new("known", None),
        Authority::new("unknown", None),
    );
    let between = Authority::new("between", Some(&known));
    let alone = between.signed(|_| {});
    ensure(alone, &known.pem, "without an intermediate certificate").await;
    let mut whole = between.signed(|_| {});
    whole.chain.push(between.der.clone());
    assert!(shown(whole, &known.pem).await.is_success());
    let between = Authority::new("between", Some(&unknown));
    let mut whole = between.signed(|_| {});
    whole.chain.push(between.der.clone());
    ensure(
        whole,
        &known.pem,
        "the issuer of the receiver's certificate is not trusted",
    )
    .await;
    let (identity, _) = self_signed(IsCa::NoCa);
    ensure(identity, &known.pem, "is self-signed").await;
}

#[tokio::test]
async fn a_ca_certificate_as_server_certificate_is_named_as_such() {
    let (identity, pem) = self_signed(IsCa::Ca(BasicConstraints::Unconstrained));
    ensure(identity, &pem, "the certificate of a CA (CA:TRUE)").await;
}

#[tokio::test]
async fn a_certificate_for_clients_is_named_as_such() {
    let ca = Authority::new("ca", None);
    let client =
        ca.signed(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    ensure(client, &ca.pem, "is not made for TLS servers").await;
}
