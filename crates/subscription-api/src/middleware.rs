//! Work around a handler: authentication, the request deadline, and what every response needs.

pub(crate) mod auth;
pub(crate) mod cors;
pub(crate) mod deadline;
pub(crate) mod graceful_shutdown;
pub(crate) mod loop_detection;
pub(crate) mod no_query;
pub(crate) mod request_telemetry;
pub(crate) mod response_memory;
