//! The store on both backends: each sentence is a generic test, run on a folder and on a database
//! of its own in the PostgreSQL that `make test` starts.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by failing there and then"
)]

mod again;
mod backlog;
mod dead;
mod deliveries;
mod failing;
mod fixture;
mod intake;
mod log;
mod lost_commits;
mod partitions;
mod progress;
mod put_aside;
mod queue;
mod repeats;
mod replays;
mod retention;
mod sealed;
mod searching;
mod subscriptions;
mod tls;
mod trials;
