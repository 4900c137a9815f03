//! How fast Hookline is, measured on this machine, and what it would be past one machine.

pub mod simulation;
