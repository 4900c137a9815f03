//! The store: organizations, API keys, subscriptions, events, deliveries and the log of every attempt, in PostgreSQL or
//! in SQLite. Only this crate uses diesel.
//!
//! A folder for each domain: `mod.rs` has its types and the async methods of [`Store`], `sql.rs` its queries. The macro
//! `backends!` compiles each query for both backends, so diesel checks it against both. SQL that differs is in `postgres.rs`
//! and `sqlite.rs` of the domain. `backend` has the connections, and knows no domain.
//!
//! The modules form no circle (`deploy/cycles`): `backend` is below [`Store`], and `Store` below the domains.
//!
//! Callers derive the ids of events, deliveries and attempts, so a repeated call finds its row. One statement moves a
//! delivery from attempt n-1 to n while it is pending; a caller that did not move it writes nothing.
//!
//! Secrets and header values are encrypted under a master key (`crypto`), which [`Store::unlock`] takes. Without it,
//! every method works that neither signs nor changes them.

mod api_keys;
mod attempts;
mod auto_disable;
mod backend;
mod backlog;
mod columns;
mod crypto;
mod deliveries;
mod embedded_queue;
mod error;
mod events;
mod fair_connections;
mod fanout_index;
mod folder;
mod health;
mod idempotency;
mod master_keys;
mod migration;
mod outbox;
mod paging;
mod partitions;
mod quarantine;
mod recording;
mod replays;
mod retention;
mod rollup;
mod rows;
mod schema;
mod schema_versions;
mod search;
mod stats;
mod store;
mod subscription_version;
mod subscriptions;
mod tail;
#[cfg(test)]
mod tests;
mod usage;

pub use api_keys::{KeyHash, KeyInfo, NewKey};
pub use attempts::delivery_details::DeliveryDetails;
pub use attempts::{AttemptStatus, LogEntry, LogQuery, LoggedAttempt, LoggedError};
pub use backend::postgres::{InvalidDatabaseUrl, PlanCacheMode, PostgresSettings};
pub use backlog::{
    BacklogClass, BacklogPosition, BacklogRead, BacklogRow, BacklogSubscription, BreakerChange,
};
pub use crypto::credentials::{Credentials, SealedCredentials};
pub use crypto::encryption::DecryptError;
pub use deliveries::cancel::CancelResult;
pub use deliveries::dead_deliveries::DeadDelivery;
pub use deliveries::due::{
    DeliverySource, DueDelivery, Eligibility, EventPayload, LoadedDeliveries,
};
pub use deliveries::{
    DeliveredCase, Delivery, DeliveryEntry, DeliveryQuery, DeliveryStatus, PendingCase,
    RestartResult, RetryCases, WaitingFor,
};
pub use embedded_queue::{
    EmbeddedDeadLetter, EmbeddedDeadLetters, EmbeddedQueue, NewEvents, QueuedEvents,
};
pub use error::StoreError;
pub use events::details::{EventDetails, EventSubscription, EventSubscriptionsPage, FanoutResult};
pub use events::list::{EventQuery, ListedEvent};
pub use events::{IncomingEvent, IntakeResult};
pub use fair_connections::{current_key, with_key};
pub use fanout_index::FanoutIndex;
pub use folder::owner_only;
pub use idempotency::{
    AnswerOf, AnswerOnce, ClaimResult, Creation, IdempotentRequest, RequestClaim, RequestDigest,
    RequestDigests,
};
pub use master_keys::{ResealResult, UnlockError};
pub use paging::{PageStart, ResultPage};
pub use partitions::{
    ClusterState, DueAttempt, DueQuery, HandOver, Heartbeat, PartitionClaim, PartitionCounts,
    PartitionOwner, PartitionRange, RegisteredDispatcher,
};
pub use recording::{AttemptRecord, NextStep};
pub use replays::{
    NewReplay, Replay, ReplayEndReason, ReplayLease, ReplayOutcome, ReplayPace, ReplayQuery,
    ReplayScope, ReplayState, ReplayTarget,
};
pub use rollup::cell::{CodeClass, StatsOutcome};
pub use search::excerpts::Excerpt;
pub use stats::current::{CurrentNumbers, WaitingCount};
pub use stats::series::{StatsCounts, StatsGroup, StatsSeries};
pub use stats::{StatsGroupBy, StatsQuery, StatsScope, StatsStep};
pub use store::{CLOCK_TOLERANCE, Store, clocks_differ};
pub use subscriptions::search::{
    FoundSubscriptions, SubscriptionFilter, SubscriptionWindow, Substring,
};
pub use subscriptions::{CreateResult, Rotation, RotationResult};
pub use tail::{
    DeliveryEnd, LogPlace, LogSnapshot, RemovedRows, SubscriptionChangeKind, SubscriptionEvent,
    TailEntry, TailPage, TailRow, TailSpan,
};
