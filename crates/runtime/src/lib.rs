//! The runtime of every Hookline process.
//!
//! [`service::run`] combines the other modules. It reads [`args`] and [`settings`], starts [`telemetry`] and the
//! [`admin`] listener with [`readiness`] and metrics, and stops the service by [`shutdown`]. [`dependencies`] waits for a
//! database or a broker that starts later.
//!
//! [`http`] serves the API and the admin listener, and limits their connections. [`descriptors`] raises the limit of open
//! files for them.
//!
//! This crate knows no event, no store and no broker.

pub mod admin;
pub mod args;
pub mod dependencies;
pub mod descriptors;
pub mod failpoint;
pub mod hosts;
pub mod http;
pub mod panics;
pub mod readiness;
pub mod request_id;
pub mod retry;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

/// Each request and each message allocates on one thread and frees on another. With the system's allocator that takes a
/// fifth of a dispatcher's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
