//! The test harness for sentences about the whole system. It has both homes as real processes, receivers and a client
//! of the API. The receivers answer as they are told and remember their requests.
//!
//! A sentence is a function that takes a home. It makes its own organization there: many sentences run side by side in
//! one home. A sentence that kills processes or cuts connections starts a home of its own.

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
