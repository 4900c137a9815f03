//! What sentences about the whole system are tried with: both homes as real processes, receivers
//! that answer as they are told and remember what they got, and a client of the API.
//!
//! A sentence is a function that is given a home. It makes an organization of its own there, so
//! that many run side by side; one that kills or cuts things starts a home of its own.

pub mod authority;
pub mod broker_users;
pub mod chaos;
pub mod client;
pub mod database_faults;
pub mod home;
pub mod name_server;
pub mod operators;
pub mod peers;
pub mod pooler;
pub mod process;
pub mod proxy;
pub mod publishing;
mod queue_depth;
pub mod raw;
pub mod receiver;
pub mod rejected;
pub mod small_tablespace;
pub mod soak;
pub mod suite;
pub mod tenant;
pub mod waiting;
pub mod wire;
