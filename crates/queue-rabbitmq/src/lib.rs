//! RabbitMQ.
//!
//! Three connections carry everything: one what is published, one what is consumed, because an alarm of the broker
//! stops connections that publish, and one the wake-ups, which may be lost and hold nothing up. A connection dies now
//! and then; what then counts is that no caller holds on to the dead one. So a connection with what belongs to it is a `session`,
//! each caller asks the `link` for the present one, and a task of ours replaces it. A publisher without a
//! session says so at once, a source waits for the next.
//!
//! Only `topology` knows which queues there are and how they hang together, only `delay` how a
//! delay becomes a route through them.

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

pub use connection::broker_url::check;
pub use connection::session::Declared;
pub use dead_letters::{DeadLetter, Inspection};
pub use error::{HostFailures, RabbitError};
pub use publisher::event_publisher::EventPublisher;
pub use rabbit::Rabbit;
pub use settings::RabbitSettings;
