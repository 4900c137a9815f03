//! The rules of Hookline, without input or output.
//!
//! An **event** is what a workflow service publishes; a **subscription** is what a customer
//! registers; fan-out pairs the two into **deliveries**; a delivery is one or more **attempts**,
//! spaced by the retry schedule, until it is delivered or ends as exhausted.
//!
//! Nothing in here knows tokio, diesel, an HTTP library, the clock or chance: times and random
//! numbers come in as arguments, so every rule can be tried with any of them.

pub mod access;
pub mod cursor;
pub mod delivery;
pub mod event;
pub mod event_type;
pub mod fanout;
mod fields;
pub mod headers;
pub mod hosts;
pub mod ids;
pub mod master_key;
pub mod operations;
pub mod outcome;
pub mod partition;
pub mod quarantine;
pub mod rate;
pub mod replay;
pub mod retention;
pub mod retry;
pub mod secret;
pub mod signing;
pub mod subscription;
pub mod target;
pub mod timestamp;
pub mod trace;
pub mod trial;
pub mod violations;
pub mod wire;
