//! Benchmarks of Hookline on this machine, and a simulation of more dispatchers than one machine can run.
//!
//! Each workload runs in a new deployment. The load generator and the receiver are separate processes. The table shows each
//! rate beside the rate of the machine without Hookline in the same run.

pub mod baseline;
pub mod child_process;
pub mod cost;
pub mod event;
pub mod ledger;
pub mod measurement;
mod number;
mod plot;
pub mod publisher;
pub mod receiver;
pub mod report;
pub mod scenarios;
pub mod setup;
pub mod simulation;
pub mod versions;
