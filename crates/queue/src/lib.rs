//! The queue traits and their types, without a broker.
//!
//! Events are durable messages: a message is owed until it is acked. A delivery is owed by its row in the store; the
//! queue carries wake-ups for it, which may be lost. `hookline-queue-rabbitmq` implements the traits for the
//! distributed deployment mode, `hookline-queue-embedded` for the standalone one. Services know only this crate.

mod error;
mod event_consumer;
pub mod failpoint;
mod published_events;
mod publisher;
mod wake_up_timer;
mod wake_ups;

pub use error::QueueError;
pub use event_consumer::{Deferred, EventConsumer, Receipt, ReceivedMessage};
pub use published_events::{Author, PublishedEvents};
pub use publisher::Publisher;
pub use wake_up_timer::WakeUpTimer;
pub use wake_ups::{Scheduled, WakeUps};
