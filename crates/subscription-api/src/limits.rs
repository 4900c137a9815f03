//! Limits of clients: rates, requests at the same time, and memory. A client is an API key, an organization or an
//! address.

pub(crate) mod concurrency;
pub(crate) mod failed_auth;
pub(crate) mod last_use;
pub(crate) mod memory;
pub(crate) mod per_minute;
pub(crate) mod published;
pub(crate) mod trusted_proxies;
