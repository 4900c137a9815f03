//! The queue on RabbitMQ. Only this crate knows lapin.
//!
//! Each process has three connections: one publishes events, one consumes, one publishes wake-ups. An alarm of the broker
//! blocks connections that publish, and the backlog that raised it must drain meanwhile. Wake-ups may be lost, and so must
//! not delay events.
//!
//! A connection ends now and then, and no caller may keep the dead one. A `session` is one connection with its channels; a
//! `supervisor` replaces it, and each caller asks the supervisor for the present one. Without a session a publisher fails
//! at once, and a consumer waits.
//!
//! Only `topology` knows the exchanges and queues, only `delay` the route of a delayed message.

mod arguments;
mod cascade;
mod codec;
mod connection;
mod consumer;
mod dead_letters;
mod delay;
mod envelope;
mod error;
mod old_deliveries;
mod outgoing;
mod publisher;
mod rabbit;
mod settings;
mod topology;
mod wake_ups;

pub use connection::broker_url::check_url;
pub use connection::session::Declared;
pub use dead_letters::{DeadLetter, Inspection};
pub use error::{HostFailures, RabbitError};
pub use publisher::event_publisher::EventPublisher;
pub use rabbit::Rabbit;
pub use settings::RabbitSettings;
