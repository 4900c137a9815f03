//! The dead letters of the folder: published events that could not be handled.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use hookline_core::timestamp::Timestamp;

use super::{EmbeddedQueue, as_limit};
use crate::backend::sqlite::{Conn, Sharing, Sqlite};
use crate::error::StoreError;

/// Bytes of a body in a list: an event fits in.
const MAX_SHOWN: i64 = 256 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct EmbeddedDeadLetter {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = Text)]
    pub reason: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub content_type: Option<String>,
    /// The publisher's trace, as `traceparent`.
    #[diesel(sql_type = Nullable<Text>)]
    pub traceparent: Option<String>,
    #[diesel(sql_type = Binary)]
    pub body: Vec<u8>,
    /// Bytes of the whole body, of which a list shows only the beginning.
    #[diesel(sql_type = BigInt)]
    size: i64,
    /// Microseconds since 1970.
    #[diesel(sql_type = BigInt)]
    created_at: i64,
}

impl EmbeddedDeadLetter {
    /// When it was dead-lettered.
    pub fn since(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.created_at)
    }

    /// Bytes of the whole body.
    pub fn size(&self) -> u64 {
        self.size.unsigned_abs()
    }
}

/// The dead letters of a folder that another process may have locked.
#[derive(Clone)]
pub struct EmbeddedDeadLetters {
    sqlite: Sqlite,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

impl EmbeddedDeadLetters {
    pub fn beside_embedded(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            sqlite: Sqlite::open(folder, Sharing::Existing)?,
        })
    }

    /// Dead letters after this id, oldest first, each with the first 256 KiB of its body.
    pub async fn page(
        &self,
        after: i64,
        max: usize,
    ) -> Result<Vec<EmbeddedDeadLetter>, StoreError> {
        self.sqlite
            .read(move |conn| {
                Ok(diesel::sql_query(
                    "SELECT id, reason, content_type, traceparent, created_at,
                            substr(body, 1, ?) AS body, length(body) AS size
                       FROM dead_letters WHERE queue = 'events' AND id > ? ORDER BY id LIMIT ?",
                )
                .bind::<BigInt, _>(MAX_SHOWN)
                .bind::<BigInt, _>(after)
                .bind::<BigInt, _>(as_limit(max))
                .load(conn)?)
            })
            .await
    }

    pub async fn find(&self, id: i64) -> Result<Option<EmbeddedDeadLetter>, StoreError> {
        self.sqlite.read(move |conn| find(conn, id)).await
    }

    pub async fn count(&self) -> Result<u64, StoreError> {
        let [events, _] = self.sqlite.read(count).await?;
        Ok(events)
    }

    /// Moves a dead letter back into the queue, in one transaction. False if it does not exist.
    pub async fn redrive(&self, id: i64) -> Result<bool, StoreError> {
        self.sqlite
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

    /// False if it does not exist.
    pub async fn drop(&self, id: i64) -> Result<bool, StoreError> {
        self.sqlite.write(move |conn| delete(conn, id)).await
    }
}

impl EmbeddedQueue {
    /// The numbers of dead letters of events and of deliveries.
    pub async fn dead_letters(&self) -> Result<[u64; 2], StoreError> {
        self.sqlite.read(count).await
    }
}

fn find(conn: &mut Conn, id: i64) -> Result<Option<EmbeddedDeadLetter>, StoreError> {
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
        let count: CountRow = diesel::sql_query(format!(
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
