//! Published events, until intake has stored them.

use bytes::Bytes;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Integer, Nullable, Text};
use hookline_core::timestamp::Timestamp;

use super::{EmbeddedQueue, MAX_RECEIVES, as_limit};
use crate::backend::sqlite::Conn;
use crate::backend::sqlite::prepared::prepared;
use crate::error::StoreError;

/// Bytes of events that are taken at once. A larger message is taken alone.
const MAX_RECEIVED_BYTES: i64 = 16 * 1024 * 1024;

#[derive(Debug, Clone, Default)]
pub struct NewEvents {
    pub body: Bytes,
    pub content_type: Option<String>,
    /// The publisher's trace, as `traceparent`.
    pub traceparent: Option<String>,
    /// When the rate limit admits the message, if it was counted.
    pub admitted_at: Option<Timestamp>,
}

/// An entry that was taken.
#[derive(Debug, Clone, QueryableByName)]
pub struct QueuedEvents {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// This time included.
    #[diesel(sql_type = Integer)]
    pub receive_count: i32,
    #[diesel(sql_type = Binary)]
    pub body: Vec<u8>,
    #[diesel(sql_type = Nullable<Text>)]
    pub content_type: Option<String>,
    /// The publisher's trace, as `traceparent`.
    #[diesel(sql_type = Nullable<Text>)]
    pub traceparent: Option<String>,
    /// When the rate limit admits the message, in microseconds since 1970, if it was counted.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub admitted_at: Option<i64>,
}

#[derive(QueryableByName)]
struct NextVisible {
    #[diesel(sql_type = Nullable<BigInt>)]
    visible_at: Option<i64>,
}

#[derive(QueryableByName)]
struct QueueEntry {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

impl EmbeddedQueue {
    /// Returns the id of the durable entry. With a lease, the entry counts as taken once by the caller.
    pub async fn push_events(
        &self,
        events: NewEvents,
        lease: Option<Timestamp>,
    ) -> Result<i64, StoreError> {
        self.sqlite
            .write(move |conn| {
                let visible_at = lease.map_or(0, Timestamp::unix_micros);
                insert_entry(conn, events, visible_at, i32::from(lease.is_some()))
            })
            .await
    }

    /// Takes the oldest visible entries and hides them until `lease`.
    pub async fn take_events(
        &self,
        max: usize,
        now: Timestamp,
        lease: Timestamp,
    ) -> Result<Vec<QueuedEvents>, StoreError> {
        self.sqlite
            .write(move |conn| {
                let mut taken: Vec<QueuedEvents> = diesel::sql_query(
                    "UPDATE event_queue SET visible_at = ?, receive_count = receive_count + 1
                      WHERE id IN (
                          SELECT id FROM (
                              SELECT id, sum(length(body)) OVER oldest AS bytes,
                                     row_number() OVER oldest AS place
                                FROM (SELECT * FROM event_queue WHERE visible_at <= ?
                                       ORDER BY visible_at, id LIMIT ?)
                              WINDOW oldest AS (ORDER BY visible_at, id))
                           WHERE bytes <= ? OR place = 1)
                     RETURNING id, receive_count, body, content_type, traceparent, admitted_at",
                )
                .bind::<BigInt, _>(lease.unix_micros())
                .bind::<BigInt, _>(now.unix_micros())
                .bind::<BigInt, _>(as_limit(max))
                .bind::<BigInt, _>(MAX_RECEIVED_BYTES)
                .load(conn)?;
                taken.sort_unstable_by_key(|entry| entry.id);
                let (spent, taken): (Vec<_>, Vec<_>) = taken
                    .into_iter()
                    .partition(|entry| entry.receive_count > MAX_RECEIVES);
                for entry in spent {
                    dead_letter_entry(conn, entry.id, "taken too often", now)?;
                }
                Ok(taken)
            })
            .await
    }

    /// Deletes entries after their events were stored.
    pub async fn ack_events(&self, ids: Vec<i64>) -> Result<(), StoreError> {
        self.sqlite
            .write(move |conn| {
                for id in ids {
                    delete_entry(conn, id)?;
                }
                Ok(())
            })
            .await
    }

    /// Makes entries visible again.
    pub async fn requeue_events(&self, ids: Vec<i64>) -> Result<(), StoreError> {
        self.sqlite
            .write(move |conn| {
                for id in ids {
                    prepared(
                        "UPDATE event_queue SET visible_at = 0 WHERE id = ?",
                        &[&id.into_sql::<BigInt>()],
                    )
                    .execute(conn)?;
                }
                Ok(())
            })
            .await
    }

    /// Makes entries visible again as if they had not been taken.
    pub async fn requeue_events_uncounted(&self, ids: Vec<i64>) -> Result<(), StoreError> {
        self.sqlite
            .write(move |conn| {
                for id in ids {
                    prepared(
                        "UPDATE event_queue SET visible_at = 0, receive_count = max(receive_count - 1, 0) WHERE id = ?",
                        &[&id.into_sql::<BigInt>()],
                    )
                    .execute(conn)?;
                }
                Ok(())
            })
            .await
    }

    /// Replaces entries by new ones, each with a receive count. They become visible when the rate limit admits them.
    pub async fn defer_events(
        &self,
        ids: Vec<i64>,
        deferred: Vec<(NewEvents, i32)>,
    ) -> Result<(), StoreError> {
        self.sqlite
            .write(move |conn| {
                for id in ids {
                    delete_entry(conn, id)?;
                }
                for (events, receive_count) in deferred {
                    let visible_at = events.admitted_at.map_or(0, Timestamp::unix_micros);
                    insert_entry(conn, events, visible_at, receive_count)?;
                }
                Ok(())
            })
            .await
    }

    /// When the next entry becomes visible, taken ones included.
    pub async fn next_events(&self) -> Result<Option<Timestamp>, StoreError> {
        let next: NextVisible = self
            .sqlite
            .read(|conn| {
                let next = "SELECT min(visible_at) AS visible_at FROM event_queue";
                Ok(diesel::sql_query(next).get_result(conn)?)
            })
            .await?;
        Ok(next.visible_at.map(Timestamp::from_unix_micros))
    }

    /// Moves an entry to the dead letters.
    pub async fn dead_letter_events(
        &self,
        id: i64,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.sqlite
            .write(move |conn| dead_letter_entry(conn, id, &reason, now))
            .await
    }
}

fn insert_entry(
    conn: &mut Conn,
    events: NewEvents,
    visible_at: i64,
    receive_count: i32,
) -> Result<i64, StoreError> {
    let admitted_at = events.admitted_at.map(Timestamp::unix_micros);
    let inserted: QueueEntry = prepared(
        "INSERT INTO event_queue (content_type, traceparent, body, admitted_at, visible_at, receive_count)
         VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        &[
            &events.content_type.into_sql::<Nullable<Text>>(),
            &events.traceparent.into_sql::<Nullable<Text>>(),
            &(*events.body).into_sql::<Binary>(),
            &admitted_at.into_sql::<Nullable<BigInt>>(),
            &visible_at.into_sql::<BigInt>(),
            &receive_count.into_sql::<Integer>(),
        ],
    )
    .get_result(conn)?;
    Ok(inserted.id)
}

fn dead_letter_entry(
    conn: &mut Conn,
    id: i64,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    diesel::sql_query(
        "INSERT INTO dead_letters (queue, reason, content_type, traceparent, body, created_at)
         SELECT 'events', ?, content_type, traceparent, body, ? FROM event_queue WHERE id = ?",
    )
    .bind::<Text, _>(reason)
    .bind::<BigInt, _>(now.unix_micros())
    .bind::<BigInt, _>(id)
    .execute(conn)?;
    delete_entry(conn, id)
}

fn delete_entry(conn: &mut Conn, id: i64) -> Result<(), StoreError> {
    prepared(
        "DELETE FROM event_queue WHERE id = ?",
        &[&id.into_sql::<BigInt>()],
    )
    .execute(conn)?;
    Ok(())
}
