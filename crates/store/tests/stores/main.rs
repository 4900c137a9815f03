//! Tests of the store on both backends: each scenario runs on a folder, and on a database of its own in the PostgreSQL that
//! `make test` starts.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing there and then"
)]

mod attempt_log;
mod auto_disable;
mod backlog;
mod cancelling;
mod dead_deliveries;
mod deliveries;
mod embedded_dead_letters;
mod embedded_queue;
mod encryption;
mod filters;
mod fixture;
mod idempotency;
mod intake;
mod lost_commits;
mod paging;
mod partitions;
mod quarantine;
mod recording;
mod replays;
mod restart;
mod retention;
mod stats;
mod subscriptions;
mod tail;
mod tls;
