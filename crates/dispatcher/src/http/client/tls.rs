//! TLS to receivers: rustls with ring, the system's certificates, and those of a file.

mod authorities;
mod messages;
mod verifier;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_platform_verifier::Verifier;

use verifier::ExplainingVerifier;

pub(crate) use messages::failure;

const TLS: &str = "cannot set up TLS";

/// # Errors
/// When the certificates of the file cannot be read or used, or when no certificate is trusted.
pub(super) fn config(extra_ca_file: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let algorithms = &provider.signature_verification_algorithms;
    let extra = extra_ca_file.map(|file| authorities::read(file, algorithms));
    let extra = extra.transpose()?.unwrap_or_default();
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).context(TLS)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context(TLS)?
        .dangerous() // The name of the method: this verifier checks chain, name and time.
        .with_custom_certificate_verifier(Arc::new(ExplainingVerifier::new(verifier)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
