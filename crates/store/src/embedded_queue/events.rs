//! Published events, until intake has stored them.

use bytes::Bytes;
use diesel::dsl::min;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Integer, Nullable, Text};
use hookline_core::timestamp::Timestamp;

use super::{EmbeddedQueue, MAX_RECEIVES, QUEUE, as_limit};
use crate::backend::sqlite::Conn;
use crate::backend::sqlite::prepared::prepared;
use crate::error::StoreError;
use crate::schema::{dead_letters, event_queue};

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
        let next: Option<i64> = self
            .sqlite
            .read(|conn| {
                let next = event_queue::table.select(min(event_queue::visible_at));
                Ok(next.first(conn)?)
            })
            .await?;
        Ok(next.map(Timestamp::from_unix_micros))
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
    Ok(diesel::insert_into(event_queue::table)
        .values((
            event_queue::content_type.eq(events.content_type),
            event_queue::traceparent.eq(events.traceparent),
            event_queue::body.eq(&*events.body),
            event_queue::admitted_at.eq(events.admitted_at.map(Timestamp::unix_micros)),
            event_queue::visible_at.eq(visible_at),
            event_queue::receive_count.eq(receive_count),
        ))
        .returning(event_queue::id)
        .get_result(conn)?)
}

fn dead_letter_entry(
    conn: &mut Conn,
    id: i64,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    event_queue::table
        .find(id)
        .select((
            QUEUE.into_sql::<Text>(),
            reason.into_sql::<Text>(),
            event_queue::content_type,
            event_queue::traceparent,
            event_queue::body,
            now.unix_micros().into_sql::<BigInt>(),
        ))
        .insert_into(dead_letters::table)
        .into_columns((
            dead_letters::queue,
            dead_letters::reason,
            dead_letters::content_type,
            dead_letters::traceparent,
            dead_letters::body,
            dead_letters::created_at,
        ))
        .execute(conn)?;
    delete_entry(conn, id)
}

fn delete_entry(conn: &mut Conn, id: i64) -> Result<(), StoreError> {
    diesel::delete(event_queue::table.find(id)).execute(conn)?;
    Ok(())
}
