//! What Hookline remembers: organizations, keys, subscriptions, events, deliveries and the log of
//! every attempt, in PostgreSQL or in SQLite. Only this crate knows diesel.
//!
//! The queries of `queries/` are written once and compiled twice, as `postgres::queries` and as
//! `sqlite::queries`: diesel checks each against its backend, and neither home can do what the
//! other cannot. What must be said differently stands in the two files named `bulk.rs`.
//!
//! Ids of events, deliveries and attempts are derived by the caller, so a repeat finds its row.
//! One statement moves a delivery from attempt n-1 to n while it is pending; whoever did not move
//! it writes nothing.
//!
//! Secrets and the values of headers are sealed under a master key (`sealed`), which a store is
//! given by [`Store::unlock`]. Without it everything works that neither signs nor changes them.

#![expect(
    clippy::duplicate_mod,
    reason = "the queries are compiled once for each backend, on purpose"
)]

mod columns;
mod credentials;
mod error;
mod facade;
mod fanout_index;
mod folder;
mod health;
mod postgres;
mod records;
mod rows;
mod schema;
mod schema_versions;
mod sealed;
mod sqlite;
mod turns;
mod windows;

pub use credentials::{Credentials, SealedCredentials};
pub use error::StoreError;
pub use facade::{CLOCK_TOLERANCE, Store, UnlockError, are_apart};
pub use fanout_index::FanoutIndex;
pub use folder::owner_only;
pub use postgres::{InvalidDatabaseUrl, Plans, PostgresSettings};
pub use records::{
    Again, AnswerOf, AttemptRecord, AttemptStatus, BacklogClass, BacklogPosition, BacklogRead,
    BacklogRow, Backlogged, Beat, Body, BreakerChange, Claim, Claimed, Created, Delivery,
    DeliveryQuery, DeliveryStatus, DeliveryStory, Digest, Due, EventStory, Excerpt, Fate, FatePage,
    Follow, Given, HandOver, Holding, IncomingEvent, KeyHash, KeyInfo, KeyedRequest, Listing,
    Loaded, LogEntry, LogQuery, LoggedAttempt, LoggedError, Look, LookInto, Making, NewKey,
    NewReplay, Once, Owed, PageStart, PartitionClaim, PartitionTotals, PutAside,
    RegisteredDispatcher, Replay, ReplayEnded, ReplayScope, ReplayState, ReplayTurn, Replayable,
    RequestDigests, Resealed, Roster, Rotated, Rotation, Source, Standing, SubscriptionFate,
    WaitingFor, Window,
};
pub use sealed::Unopened;
pub use sqlite::queue::{
    EmbeddedDeadLetter, EmbeddedDeadLetters, EmbeddedQueue, NewEvents, QueuedEvents,
};
pub use turns::{key_of_task, of_key};
