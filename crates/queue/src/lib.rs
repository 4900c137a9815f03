//! The queue traits and their types, without a broker.
//!
//! `hookline-queue-rabbitmq` implements them for the distributed deployment mode, `hookline-queue-embedded` for the
//! standalone one. Services know only this crate.

mod contract;
pub mod failpoint;
mod timer;

pub use contract::{
    Coming, EventSource, PublishedEvents, Publisher, QueueError, Receipt, Scheduled, Taken,
    WakeUps, Writer,
};
pub use timer::Timer;
