//! One cryptography for the whole process. An HTTP client asks for it when it is built, and panics
//! where nobody chose.

/// Everything in this process that speaks TLS does so with ring, unless somebody chose before.
pub fn use_ring() {
    let _chosen_before = rustls::crypto::ring::default_provider().install_default();
}
