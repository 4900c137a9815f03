//! How Hookline's parts hand each other work.
//!
//! [`contract`] is what a home must give: durable publishing of events, a source whose messages stay
//! owed until they are acked, and wake-ups. RabbitMQ gives it here; the embedded queue of the store and [`Timer`] give
//! it where everything runs in one process. Only this crate knows lapin.

pub mod contract;
mod fault;
pub mod rabbit;
mod timer;

pub use timer::Timer;
