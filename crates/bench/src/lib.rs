//! Benchmarks of Hookline on this machine, and a simulation of more dispatchers than one machine can run.
//!
//! Each workload runs in a new home. The load generator and the receiver are separate processes. The table shows each
//! rate beside the rate of the machine without Hookline in the same run.

pub mod cost;
pub mod event;
pub mod figure;
pub mod ledger;
mod plot;
pub mod publisher;
pub mod raw;
pub mod receiver;
pub mod report;
pub mod role;
pub mod scenarios;
pub mod simulation;
pub mod stage;
pub mod versions;
