//! The rules of Hookline, without input or output.
//!
//! A workflow service publishes **events**; a customer registers **subscriptions**. Fan-out pairs the two into
//! **deliveries**. A delivery is one or more **attempts**, spaced by the retry schedule, until it is delivered or
//! exhausted.
//!
//! No module here uses tokio, diesel, an HTTP library, the clock or chance: times and random numbers are arguments,
//! so tests can try every rule with any of them.

pub mod access;
pub mod cursor;
pub mod delivery;
pub mod event;
pub mod event_type;
pub mod fanout;
mod fields;
pub mod filter;
pub mod headers;
pub mod histogram;
pub mod hosts;
pub mod http_log;
pub mod ids;
pub mod master_key;
pub mod operational_events;
pub mod outcome;
pub mod partition;
pub mod quarantine;
pub mod rate_limit;
pub mod replay;
pub mod retention;
pub mod retry;
pub mod retry_request;
pub mod row_failures;
pub mod secret;
pub mod signing;
pub mod subscription;
pub mod target;
pub mod test_call;
pub mod timestamp;
pub mod trace;
pub mod violations;
pub mod wire;
