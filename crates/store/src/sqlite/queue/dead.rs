//! Published events that could not be handled, until an operator looks at them.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use hookline_core::timestamp::Timestamp;

use super::super::{Conn, Sharing, Sqlite};
use super::{EmbeddedQueue, as_limit};
use crate::error::StoreError;

/// How much of a body a list shows: all of an event.
const SHOWN: i64 = 256 * 1024;

/// Events of a folder that were put aside.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct DeadLetter {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// Why it is here.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// The format of events.
    #[diesel(sql_type = Nullable<Text>)]
    pub content_type: Option<String>,
    /// The publisher's trace, as `traceparent`.
    #[diesel(sql_type = Nullable<Text>)]
    pub traceparent: Option<String>,
    /// As it was published.
    #[diesel(sql_type = Binary)]
    pub body: Vec<u8>,
    /// How many bytes the body has, of which a list shows the beginning alone.
    #[diesel(sql_type = BigInt)]
    size: i64,
    /// Since when, in microseconds since 1970.
    #[diesel(sql_type = BigInt)]
    created_at: i64,
}

impl DeadLetter {
    /// Since when it is here.
    pub fn since(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.created_at)
    }

    /// How many bytes its body has.
    pub fn size(&self) -> u64 {
        self.size.unsigned_abs()
    }
}

/// The rejected events of a folder that another process may be delivering from.
#[derive(Clone)]
pub struct DeadLetters {
    home: Sqlite,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

impl DeadLetters {
    /// Those of a folder.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be used.
    pub fn beside_embedded(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            home: Sqlite::open(folder, Sharing::Existing)?,
        })
    }

    /// Some after the one of this number, oldest first, each with the first 256 KiB of its body.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn page(&self, after: i64, max: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.home
            .read(move |conn| {
                Ok(diesel::sql_query(
                    "SELECT id, reason, content_type, traceparent, created_at,
                            substr(body, 1, ?) AS body, length(body) AS size
                       FROM dead_letters WHERE queue = 'events' AND id > ? ORDER BY id LIMIT ?",
                )
                .bind::<BigInt, _>(SHOWN)
                .bind::<BigInt, _>(after)
                .bind::<BigInt, _>(as_limit(max))
                .load(conn)?)
            })
            .await
    }

    /// One of them.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn find(&self, id: i64) -> Result<Option<DeadLetter>, StoreError> {
        self.home.read(move |conn| find(conn, id)).await
    }

    /// How many there are.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn count(&self) -> Result<u64, StoreError> {
        let [events, _] = self.home.read(count).await?;
        Ok(events)
    }

    /// Puts events back into their queue, in one step; false when there is no such letter.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn redrive(&self, id: i64) -> Result<bool, StoreError> {
        self.home
            .write(move |conn| {
                diesel::sql_query(
                    "INSERT INTO event_queue (content_type, traceparent, body, visible_at)
                     SELECT content_type, traceparent, body, 0 FROM dead_letters
                      WHERE id = ? AND queue = 'events'",
                )
                .bind::<BigInt, _>(id)
                .execute(conn)?;
                delete(conn, id)
            })
            .await
    }

    /// Drops one; false when there is none.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn drop(&self, id: i64) -> Result<bool, StoreError> {
        self.home.write(move |conn| delete(conn, id)).await
    }
}

impl EmbeddedQueue {
    /// How many dead letters there are of events and of deliveries.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn dead_letters(&self) -> Result<[u64; 2], StoreError> {
        self.home.read(count).await
    }
}

fn find(conn: &mut Conn, id: i64) -> Result<Option<DeadLetter>, StoreError> {
    Ok(diesel::sql_query(
        "SELECT id, reason, content_type, traceparent, created_at, body, length(body) AS size
           FROM dead_letters WHERE id = ? AND queue = 'events'",
    )
    .bind::<BigInt, _>(id)
    .get_result(conn)
    .optional()?)
}

fn count(conn: &mut Conn) -> Result<[u64; 2], StoreError> {
    let mut count = |condition: &str| -> Result<u64, StoreError> {
        let count: Count = diesel::sql_query(format!(
            "SELECT count(*) AS value FROM dead_letters WHERE {condition}"
        ))
        .get_result(conn)?;
        Ok(count.value.unsigned_abs())
    };
    Ok([count("queue = 'events'")?, count("queue <> 'events'")?])
}

fn delete(conn: &mut Conn, id: i64) -> Result<bool, StoreError> {
    let deleted = diesel::sql_query("DELETE FROM dead_letters WHERE id = ? AND queue = 'events'")
        .bind::<BigInt, _>(id)
        .execute(conn)?;
    Ok(deleted == 1)
}
