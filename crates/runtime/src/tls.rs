//! The cryptography of TLS for the whole process. Building an HTTP client without it panics.

/// Makes ring the default of rustls, unless another provider is installed already.
pub fn use_ring() {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
}
