//! Requests to servers of this machine, without TLS. Each client of reqwest reads all certificates of the machine, which
//! takes a debug build a tenth of a second; a client from here reads none.

use reqwest::{Client, IntoUrl, Response};

/// A client that trusts no certificate, and asks no proxy of the environment: that does not reach loopback.
pub fn http_client() -> Client {
    let builder = Client::builder().tls_certs_only([]).no_proxy();
    builder.build().unwrap_or_default()
}

/// The answer to a GET request.
pub async fn get(url: impl IntoUrl) -> reqwest::Result<Response> {
    http_client().get(url).send().await
}
