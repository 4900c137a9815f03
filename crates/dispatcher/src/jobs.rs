//! Periodic work. Each job can run in several dispatchers at once.

pub(crate) mod auto_disable;
pub mod dead_letter_metrics;
pub(crate) mod refile;
pub mod replayer;
pub mod retention;
