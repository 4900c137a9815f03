//! The path of one delivery: load, decide, send, record.

mod breaker_writer;
pub(crate) mod dead_letter;
pub(crate) mod decide;
pub(crate) mod load_retry;
pub(crate) mod metrics;
pub(crate) mod quarantine;
pub(crate) mod record;
pub(crate) mod worker;
pub(crate) mod write_retry;
