//! Limits of clients: rates, requests at the same time, and memory. A client is an API key, an organization or an
//! address. Each process counts for itself.

pub(crate) mod concurrency;
pub(crate) mod failed_auth;
pub(crate) mod memory;
pub(crate) mod rates;
pub(crate) mod trusted_proxies;
