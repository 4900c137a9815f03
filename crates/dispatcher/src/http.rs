//! One signed request to a receiver: name resolution, SSRF protection, connections, TLS, limits of the response.

pub(crate) mod attempt;
pub(crate) mod client;
pub(crate) mod dns;
pub(crate) mod ssrf_resolver;
