//! The embedded queue: durable, with leases, delays and dead letters, in the same file as the rest.
//!
//! A delivery's row is its entry in the queue: it waits until it is due, is out of sight while
//! somebody has it, and leaves by being moved on. So there is nothing to publish that could be
//! lost between a commit and a queue. Published events have a table of their own until they are
//! taken in.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::Sqlite;
use crate::error::StoreError;

mod attempts;
mod dead;
mod events;

pub use attempts::TakenAttempt;
pub use dead::{DeadLetter, DeadLetters};
pub use events::{NewEvents, QueuedEvents};

/// Who was taken this often and never dealt with goes to the dead letters, as on the broker.
const TAKES: i32 = 50;

/// How long a message may be in somebody's hands. It only counts for what was taken and dropped
/// in this very process: an earlier one's leases are void from the start.
pub const LEASE: Duration = Duration::from_secs(300);

/// A queue beside the tables of a SQLite home.
#[derive(Clone)]
pub struct EmbeddedQueue {
    home: Sqlite,
}

impl EmbeddedQueue {
    pub(crate) fn new(home: Sqlite) -> Self {
        Self { home }
    }

    /// Makes visible what an earlier process had in its hands.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn void_leases(&self) -> Result<(), StoreError> {
        self.home
            .write(|conn| {
                diesel::sql_query("UPDATE deliveries SET visible_at = NULL WHERE state = 'pending' AND visible_at IS NOT NULL")
                    .execute(conn)?;
                diesel::sql_query("UPDATE event_queue SET visible_at = coalesce(turn, 0) WHERE visible_at > 0").execute(conn)?;
                Ok(())
            })
            .await
    }

    /// Moves what is due, and whose turn it is, to that much earlier: the clock went back by it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn move_due_times(&self, back: Duration) -> Result<(), StoreError> {
        let back = i64::try_from(back.as_micros()).unwrap_or(i64::MAX);
        self.home
            .write(move |conn| {
                for statement in [
                    "UPDATE deliveries SET due = due - ? WHERE state = 'pending'",
                    "UPDATE event_queue SET visible_at = visible_at - ? WHERE visible_at > 0",
                    "UPDATE event_queue SET turn = turn - ? WHERE turn IS NOT NULL",
                    "UPDATE replays SET next_turn = next_turn - ? WHERE next_turn IS NOT NULL",
                ] {
                    diesel::sql_query(statement)
                        .bind::<BigInt, _>(back)
                        .execute(conn)?;
                }
                Ok(())
            })
            .await
    }

    /// Whether the queue can be used.
    pub fn is_ready(&self) -> bool {
        self.home.is_ready()
    }
}

fn as_limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}
