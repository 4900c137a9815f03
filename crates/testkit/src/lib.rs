//! The test kit: a running Hookline with its processes, database and broker, receivers that answer as a test says, and
//! clients of the API and of the broker. Acceptance tests, benchmarks and the demo use it.

pub mod broker_users;
pub mod cli;
pub mod client;
pub mod contract;
pub mod database_faults;
pub mod dependencies;
pub mod deployment;
pub mod http;
pub mod managed_process;
pub mod name_server;
pub mod operations;
pub mod pooler;
pub mod proxy;
pub mod publisher;
pub mod queue_depth;
pub mod raw_client;
pub mod raw_receiver;
pub mod receiver;
pub mod rejected_events;
pub mod small_disk;
pub mod small_tablespace;
pub mod tenant;
pub mod test_ca;
pub mod waiting;
