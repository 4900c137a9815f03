//! What every Hookline process needs, so that a service's main says only what is its own.
//!
//! [`service::run`] puts the rest together: [`args`] name a file, [`settings`] are read from it
//! once and refused if bad, [`telemetry`] starts, the [`admin`] listener answers from
//! [`readiness`] and the metrics, and [`shutdown`] tells everybody when to stop. [`peers`] waits
//! for a database or a broker that starts later than we do.
//!
//! [`http`] serves the API and the admin listener, and bounds their connections; [`descriptors`] makes
//! room for them.
//!
//! Nothing in here knows an event, a store or a broker.

pub mod admin;
pub mod args;
pub mod descriptors;
pub mod fault;
pub mod hosts;
pub mod http;
pub mod panics;
pub mod patience;
pub mod peers;
pub mod readiness;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

/// Every process of ours allocates for each request and each message, on one thread and frees on
/// another: with the system's allocator that is a fifth of a dispatcher's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
