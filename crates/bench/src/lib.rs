//! How fast Hookline is, measured on this machine, and what it would be past one machine.
//!
//! A workload runs in a home of its own, with the load generator and the receiver as processes of
//! their own. Beside each rate stands what the machine does in the same run without us.

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
