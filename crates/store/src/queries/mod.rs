//! The queries, by what they are for. This folder is compiled once in `postgres` and once in
//! `sqlite`; `super::Conn` is that backend's connection, `super::bulk` what it says differently.

pub(crate) mod access;
pub(crate) mod again;
pub(crate) mod backlog;
pub(crate) mod deliveries;
pub(crate) mod delivery_story;
pub(crate) mod event_story;
pub(crate) mod failing;
pub(crate) mod intake;
pub(crate) mod log;
pub(crate) mod log_totals;
pub(crate) mod master_keys;
pub(crate) mod operations;
pub(crate) mod partitions;
pub(crate) mod progress;
pub(crate) mod put_aside;
pub(crate) mod recording;
pub(crate) mod repeats;
pub(crate) mod replaying;
pub(crate) mod replays;
pub(crate) mod retention;
pub(crate) mod stored;
pub(crate) mod subscriptions;
pub(crate) mod trials;

/// Rows in one statement: PostgreSQL takes 65,535 values, SQLite 32,766.
const ROWS: usize = 1_000;
