//! TLS to receivers: rustls with ring, the system's certificates, and those of a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

const TLS: &str = "cannot set up TLS";

/// # Errors
/// When the file's certificates cannot be read, or nothing is trusted at all.
pub(super) fn config(extra_ca_file: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let extra = extra_ca_file.map(certificates).transpose()?;
    let provider = Arc::new(ring::default_provider());
    let extra = extra.unwrap_or_default();
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).context(TLS)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context(TLS)?
        .dangerous() // The name of the method: this verifier checks chain, name and time.
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = file.display();
    let pem = std::fs::read(file)
        .with_context(|| format!("setting targets.extra_ca_file: {shown} cannot be read"))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    anyhow::ensure!(
        !certificates.is_empty(),
        "setting targets.extra_ca_file: {shown} must hold certificates as PEM"
    );
    Ok(certificates)
}
