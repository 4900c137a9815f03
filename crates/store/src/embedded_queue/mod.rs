//! The queue of the standalone mode: published events, durable, with leases, delays and dead letters, in the same file as
//! the tables. An event leaves it when intake has stored it; from then on its deliveries are due rows.

use std::path::Path;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::backend::sqlite::{Sharing, Sqlite};
use crate::error::StoreError;
use crate::store::Store;

mod dead;
mod events;

pub use dead::{EmbeddedDeadLetter, EmbeddedDeadLetters};
pub use events::{NewEvents, QueuedEvents};

/// An entry that was received more often becomes a dead letter, as on the broker.
const MAX_RECEIVES: i32 = 50;

/// The name of the queue in `dead_letters`.
const QUEUE: &str = "events";

#[derive(Clone)]
pub struct EmbeddedQueue {
    sqlite: Sqlite,
}

impl Store {
    /// A folder that this process alone delivers from, and its queue.
    pub fn embedded(folder: &Path) -> Result<(Self, EmbeddedQueue), StoreError> {
        let sqlite = Sqlite::open(folder, Sharing::Exclusive)?;
        Ok((Self::sqlite(sqlite.clone()), EmbeddedQueue::new(sqlite)))
    }
}

impl EmbeddedQueue {
    fn new(sqlite: Sqlite) -> Self {
        Self { sqlite }
    }

    /// Makes the entries visible that an earlier process had received.
    pub async fn void_leases(&self) -> Result<(), StoreError> {
        self.sqlite
            .write(|conn| {
                diesel::sql_query(
                    "UPDATE event_queue SET visible_at = coalesce(admitted_at, 0) WHERE visible_at > 0",
                )
                .execute(conn)?;
                Ok(())
            })
            .await
    }

    /// Moves all due times back, because the clock went back by this much.
    pub async fn move_due_times(&self, back: Duration) -> Result<(), StoreError> {
        let back = i64::try_from(back.as_micros()).unwrap_or(i64::MAX);
        self.sqlite
            .write(move |conn| {
                for statement in [
                    "UPDATE deliveries SET due = due - ? WHERE state = 'pending'",
                    "UPDATE event_queue SET visible_at = visible_at - ? WHERE visible_at > 0",
                    "UPDATE event_queue SET admitted_at = admitted_at - ? WHERE admitted_at IS NOT NULL",
                    "UPDATE replays SET next_step_at = next_step_at - ? WHERE next_step_at IS NOT NULL",
                ] {
                    diesel::sql_query(statement)
                        .bind::<BigInt, _>(back)
                        .execute(conn)?;
                }
                Ok(())
            })
            .await
    }

    pub fn is_ready(&self) -> bool {
        self.sqlite.is_ready()
    }
}

fn as_limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}
