//! The embedded queue of published events: durable, with leases, delays and dead letters, in the same file as the rest.
//! Events are in it until they are taken in; after that their deliveries are rows that are due.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::Sqlite;
use crate::error::StoreError;

mod dead;
mod events;

pub use dead::{DeadLetter, DeadLetters};
pub use events::{NewEvents, QueuedEvents};

/// An entry that was taken so often and never settled becomes a dead letter, as at the broker.
const TAKES: i32 = 50;

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
                diesel::sql_query(
                    "UPDATE event_queue SET visible_at = coalesce(turn, 0) WHERE visible_at > 0",
                )
                .execute(conn)?;
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
