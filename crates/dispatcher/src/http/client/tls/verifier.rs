//! The platform's verifier, which additionally distinguishes faults that it reports alike.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// The reason why the issuer of a certificate is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untrusted {
    #[error("self-signed certificate")]
    SelfSigned,
    #[error("certificate without its intermediates, or of an unknown issuer")]
    MissingIntermediate,
}

#[derive(Debug)]
pub(super) struct ExplainingVerifier(Verifier);

impl ExplainingVerifier {
    pub(super) fn new(verifier: Verifier) -> Self {
        Self(verifier)
    }
}

impl ServerCertVerifier for ExplainingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| match error {
                Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    unknown_issuer(end_entity, intermediates)
                }
                error => error,
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn unknown_issuer(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Error {
    let is_self_signed = webpki::EndEntityCert::try_from(end_entity)
        .is_ok_and(|certificate| certificate.issuer() == certificate.subject());
    let why = match (is_self_signed, intermediates) {
        (true, _) => Untrusted::SelfSigned,
        (false, []) => Untrusted::MissingIntermediate,
        (false, _) => return CertificateError::UnknownIssuer.into(),
    };
    CertificateError::Other(OtherError(Arc::new(why))).into()
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring;
    use rustls::pki_types::pem::PemObject as _;

    use super::super::failure;
    use super::*;

    /// OpenSSL made it. The CA has a key of P-256 and signs with ECDSA and SHA-512, which ring does not verify.
    #[test]
    fn an_unsupported_signature_algorithm_is_named_as_such() {
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let ca = certificate(include_str!("verifier/p256sha512-ca.pem"));
        let receiver = certificate(include_str!("verifier/p256sha512.pem"));
        let provider = Arc::new(ring::default_provider());
        let verifier =
            ExplainingVerifier::new(Verifier::new_with_extra_roots([ca], provider).unwrap());
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(2_000_000_000));
        let error = verifier
            .verify_server_cert(&receiver, &[], &"127.0.0.1".try_into().unwrap(), &[], now)
            .unwrap_err();
        let message = failure(&error);
        assert!(
            message.contains("signed with an algorithm that is not supported"),
            "{message}"
        );
    }
}
