//! Requests to servers of this machine, without TLS. Each client of reqwest reads all certificates of the machine, which
//! takes a debug build a tenth of a second; a client from here reads none.

use reqwest::{Client, IntoUrl, Response};

/// A client that trusts no certificate.
///
/// # Panics
/// Never: the builder fails on bad settings alone.
pub fn http_client() -> Client {
    let built = Client::builder().tls_certs_only([]).build();
    #[expect(clippy::expect_used, reason = "the settings are constant")]
    built.expect("a client without certificates")
}

/// The answer to a GET request.
///
/// # Errors
/// When none comes.
pub async fn get(url: impl IntoUrl) -> reqwest::Result<Response> {
    http_client().get(url).send().await
}
