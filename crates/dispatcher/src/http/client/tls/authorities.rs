//! The certificates of `targets.extra_ca_file`.

use std::path::Path;

use anyhow::{Context as _, ensure};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The shortest public key of a supported RSA certificate, in bytes: the modulus has 2048 bits.
const SHORTEST_RSA: usize = 256;

/// The algorithm identifier of RSA keys (RFC 8017, appendix A.1) begins with this object identifier.
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";

/// # Errors
/// When the file cannot be read, holds no certificate, or holds a key of an unsupported kind. Such a certificate would
/// be loaded and trusted in vain.
pub(super) fn read(
    file: &Path,
    algorithms: &WebPkiSupportedAlgorithms,
) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = file.display();
    let pem = std::fs::read(file)
        .with_context(|| format!("setting targets.extra_ca_file: {shown} cannot be read"))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    ensure!(
        !certificates.is_empty(),
        "setting targets.extra_ca_file: {shown} must hold certificates as PEM"
    );
    for (certificate, number) in certificates.iter().zip(1..) {
        let anchor = webpki::anchor_from_trusted_cert(certificate).with_context(|| {
            format!("setting targets.extra_ca_file: certificate {number} of {shown} cannot be read")
        })?;
        ensure!(
            is_usable(&anchor.subject_public_key_info, algorithms),
            "setting targets.extra_ca_file: the key of certificate {number} of {shown} is of a kind that cannot be \
             used; usable are RSA of 2048 to 8192 bits, ECDSA P-256 and P-384, and Ed25519"
        );
    }
    Ok(certificates)
}

/// `key` is the content of a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7): an AlgorithmIdentifier and the key.
fn is_usable(key: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
    let [0x30, length, rest @ ..] = key else {
        return false;
    };
    let Some((algorithm, key)) = rest.split_at_checked(usize::from(*length)) else {
        return false;
    };
    let is_known = algorithms
        .all
        .iter()
        .any(|known| known.public_key_alg_id().as_ref() == algorithm);
    is_known && (!algorithm.starts_with(RSA) || key.len() >= SHORTEST_RSA)
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring;

    use super::*;

    fn read_pem(pem: &str) -> anyhow::Result<usize> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), pem)?;
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Ok(read(file.path(), &algorithms)?.len())
    }

    #[test]
    fn a_certificate_with_an_unsupported_key_is_refused_by_its_number() {
        let usable = rcgen::generate_simple_self_signed(vec!["ca.example".into()]).unwrap();
        let usable = usable.cert.pem();
        assert_eq!(read_pem(&usable).unwrap(), 1);
        for unusable in [
            include_str!("authorities/p521.pem"),
            include_str!("authorities/rsa1024.pem"),
            include_str!("authorities/ed448.pem"),
        ] {
            let error = read_pem(&format!("{usable}{unusable}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains("the key of certificate 2 of"), "{error}");
            assert!(error.contains("targets.extra_ca_file"), "{error}");
        }
        assert_eq!(
            read_pem(include_str!("authorities/rsa2048.pem")).unwrap(),
            1
        );
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        for pem in [
            "",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let error = read_pem(pem).unwrap_err().to_string();
            assert!(error.contains("targets.extra_ca_file"), "{error}");
        }
    }
}
