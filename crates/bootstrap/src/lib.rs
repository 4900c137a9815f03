//! The processes of the distributed deployment mode.
//!
//! [`distributed`] reaches PostgreSQL and RabbitMQ as the settings name them; `src/bin` has a `main` for each service.
//! It is a crate of its own so that neither the services nor `runtime` know the broker.

pub mod distributed;
pub mod master_keys;
