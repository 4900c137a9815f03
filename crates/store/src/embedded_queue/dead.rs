//! The dead letters of the folder: published events that could not be handled.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Integer};
use hookline_core::timestamp::Timestamp;

use super::{EmbeddedQueue, QUEUE, as_limit};
use crate::backend::sqlite::{Conn, Sharing, Sqlite};
use crate::error::StoreError;
use crate::schema::{dead_letters, event_queue};

/// Bytes of a body in a list: an event fits in.
const MAX_SHOWN: i32 = 256 * 1024;

#[diesel::declare_sql_function]
extern "SQL" {
    fn length(value: Binary) -> BigInt;
    fn substr(value: Binary, from: Integer, count: Integer) -> Binary;
}

#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct EmbeddedDeadLetter {
    pub id: i64,
    pub reason: String,
    pub content_type: Option<String>,
    /// The publisher's trace, as `traceparent`.
    pub traceparent: Option<String>,
    pub body: Vec<u8>,
    /// Bytes of the whole body, of which a list shows only the beginning.
    size: i64,
    /// Microseconds since 1970.
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
                Ok(dead_letters::table
                    .filter(dead_letters::queue.eq(QUEUE))
                    .filter(dead_letters::id.gt(after))
                    .order(dead_letters::id)
                    .limit(as_limit(max))
                    .select((
                        dead_letters::id,
                        dead_letters::reason,
                        dead_letters::content_type,
                        dead_letters::traceparent,
                        substr(dead_letters::body, 1, MAX_SHOWN),
                        length(dead_letters::body),
                        dead_letters::created_at,
                    ))
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
                dead_letters::table
                    .filter(dead_letters::id.eq(id))
                    .filter(dead_letters::queue.eq(QUEUE))
                    .select((
                        dead_letters::content_type,
                        dead_letters::traceparent,
                        dead_letters::body,
                        0_i64.into_sql::<BigInt>(),
                    ))
                    .insert_into(event_queue::table)
                    .into_columns((
                        event_queue::content_type,
                        event_queue::traceparent,
                        event_queue::body,
                        event_queue::visible_at,
                    ))
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
    Ok(dead_letters::table
        .filter(dead_letters::id.eq(id))
        .filter(dead_letters::queue.eq(QUEUE))
        .select((
            dead_letters::id,
            dead_letters::reason,
            dead_letters::content_type,
            dead_letters::traceparent,
            dead_letters::body,
            length(dead_letters::body),
            dead_letters::created_at,
        ))
        .first(conn)
        .optional()?)
}

fn count(conn: &mut Conn) -> Result<[u64; 2], StoreError> {
    let letters = dead_letters::table.count();
    let events: i64 = letters
        .filter(dead_letters::queue.eq(QUEUE))
        .get_result(conn)?;
    let others: i64 = letters
        .filter(dead_letters::queue.ne(QUEUE))
        .get_result(conn)?;
    Ok([events.unsigned_abs(), others.unsigned_abs()])
}

fn delete(conn: &mut Conn, id: i64) -> Result<bool, StoreError> {
    let of_id = dead_letters::table
        .filter(dead_letters::id.eq(id))
        .filter(dead_letters::queue.eq(QUEUE));
    Ok(diesel::delete(of_id).execute(conn)? == 1)
}
