//! Where Hookline lives.
//!
//! [`distributed`] finds PostgreSQL and RabbitMQ, which the three services share; [`embedded`]
//! makes a folder serve the same contracts, for one process that does everything. Services are
//! given the contracts and do not know which home they stand in.

pub mod distributed;
pub mod embedded;
mod unlocking;

pub use unlocking::{unlock, unlock_to_rekey};
