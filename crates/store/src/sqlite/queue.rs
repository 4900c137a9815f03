//! The embedded queue: durable, with leases, delays and dead letters, in the same file as the rest.
//!
//! A delivery's row is its entry in the queue: it waits until it is due, is out of sight while
//! somebody has it, and leaves by being moved on. So there is nothing to publish that could be
//! lost between a commit and a queue. Published events have a table of their own until they are
//! taken in.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Integer, Nullable, Text};
use hookline_core::delivery::{DeliveryState, GaveUp, OwedAttempt};
use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

use super::queries::progress::end;
use super::{Conn, Sqlite};
use crate::columns::{Key, Uid};
use crate::error::StoreError;

/// Who was taken this often and never dealt with goes to the dead letters, as on the broker.
const TAKES: i32 = 50;

/// How many bytes of events are taken at once; one message may be larger and comes alone.
const TAKE_BYTES: i64 = 16 * 1024 * 1024;

/// A queue beside the tables of a SQLite home.
#[derive(Clone)]
pub struct EmbeddedQueue {
    home: Sqlite,
}

/// Published events in somebody's hands.
#[derive(Debug, Clone, QueryableByName)]
pub struct QueuedEvents {
    /// The entry.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// How often it was taken, this time included.
    #[diesel(sql_type = Integer)]
    pub takes: i32,
    /// The bytes as they were published.
    #[diesel(sql_type = Binary)]
    pub body: Vec<u8>,
    /// Their format.
    #[diesel(sql_type = Nullable<Text>)]
    pub content_type: Option<String>,
    /// The publisher's trace, as `traceparent`.
    #[diesel(sql_type = Nullable<Text>)]
    pub traceparent: Option<String>,
}

/// A due attempt in somebody's hands.
#[derive(Debug, Clone, Copy)]
pub struct TakenAttempt {
    /// Which attempt.
    pub owed: OwedAttempt,
    /// How often it was taken, this time included.
    pub takes: i32,
}

#[derive(QueryableByName)]
struct AttemptEntry {
    #[diesel(sql_type = Uid)]
    id: Key,
    #[diesel(sql_type = Integer)]
    generation: i32,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Integer)]
    takes: i32,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = Nullable<BigInt>)]
    value: Option<i64>,
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
                diesel::sql_query("UPDATE event_queue SET visible_at = 0 WHERE visible_at > 0").execute(conn)?;
                Ok(())
            })
            .await
    }

    /// Puts published events in; durable on return.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn push_events(
        &self,
        body: Vec<u8>,
        content_type: Option<String>,
        traceparent: Option<String>,
    ) -> Result<(), StoreError> {
        self.home
            .write(move |conn| {
                diesel::sql_query(
                    "INSERT INTO event_queue (content_type, traceparent, body, visible_at) VALUES (?, ?, ?, 0)",
                )
                .bind::<Nullable<Text>, _>(content_type)
                .bind::<Nullable<Text>, _>(traceparent)
                .bind::<Binary, _>(body)
                .execute(conn)?;
                Ok(())
            })
            .await
    }

    /// Takes events, oldest first, out of others' sight until `lease`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn take_events(
        &self,
        max: usize,
        now: Timestamp,
        lease: Timestamp,
    ) -> Result<Vec<QueuedEvents>, StoreError> {
        self.home
            .write(move |conn| {
                let mut taken: Vec<QueuedEvents> = diesel::sql_query(
                    "UPDATE event_queue SET visible_at = ?, takes = takes + 1
                      WHERE id IN (
                          SELECT id FROM (
                              SELECT id, sum(length(body)) OVER oldest AS bytes,
                                     row_number() OVER oldest AS place
                                FROM (SELECT * FROM event_queue WHERE visible_at <= ?
                                       ORDER BY visible_at, id LIMIT ?)
                              WINDOW oldest AS (ORDER BY visible_at, id))
                           WHERE bytes <= ? OR place = 1)
                     RETURNING id, takes, body, content_type, traceparent",
                )
                .bind::<BigInt, _>(lease.unix_micros())
                .bind::<BigInt, _>(now.unix_micros())
                .bind::<BigInt, _>(as_limit(max))
                .bind::<BigInt, _>(TAKE_BYTES)
                .load(conn)?;
                taken.sort_unstable_by_key(|entry| entry.id);
                let (spent, taken): (Vec<_>, Vec<_>) =
                    taken.into_iter().partition(|entry| entry.takes > TAKES);
                for entry in spent {
                    bury_entry(conn, entry.id, "taken too often", now)?;
                }
                Ok(taken)
            })
            .await
    }

    /// Removes events that were taken in.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn ack_events(&self, ids: Vec<i64>) -> Result<(), StoreError> {
        self.home
            .write(move |conn| {
                for id in ids {
                    delete_entry(conn, id)?;
                }
                Ok(())
            })
            .await
    }

    /// Makes events visible again.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn release_events(&self, ids: Vec<i64>) -> Result<(), StoreError> {
        self.home
            .write(move |conn| {
                for id in ids {
                    diesel::sql_query("UPDATE event_queue SET visible_at = 0 WHERE id = ?")
                        .bind::<BigInt, _>(id)
                        .execute(conn)?;
                }
                Ok(())
            })
            .await
    }

    /// Moves events to the dead letters.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn bury_events(
        &self,
        id: i64,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.home
            .write(move |conn| bury_entry(conn, id, &reason, now))
            .await
    }

    /// Takes attempts that are due, out of others' sight until `lease`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn take_attempts(
        &self,
        max: usize,
        now: Timestamp,
        lease: Timestamp,
    ) -> Result<Vec<TakenAttempt>, StoreError> {
        self.home
            .write(move |conn| {
                let entries: Vec<AttemptEntry> = diesel::sql_query(
                    "UPDATE deliveries SET visible_at = ?, takes = takes + 1
                      WHERE id IN (SELECT id FROM deliveries
                                    WHERE state = 'pending' AND coalesce(visible_at, due) <= ?
                                    ORDER BY coalesce(visible_at, due) LIMIT ?)
                     RETURNING id, generation, attempts, takes",
                )
                .bind::<BigInt, _>(lease.unix_micros())
                .bind::<BigInt, _>(now.unix_micros())
                .bind::<BigInt, _>(as_limit(max))
                .load(conn)?;
                let mut taken = Vec::with_capacity(entries.len());
                for entry in entries {
                    let delivery = DeliveryId(entry.id.0);
                    if entry.takes > TAKES {
                        bury_delivery(conn, delivery, "taken too often", now)?;
                        continue;
                    }
                    let owed = OwedAttempt {
                        delivery,
                        generation: entry.generation.unsigned_abs(),
                        attempt: entry.attempts.unsigned_abs() + 1,
                    };
                    taken.push(TakenAttempt {
                        owed,
                        takes: entry.takes,
                    });
                }
                Ok(taken)
            })
            .await
    }

    /// Makes deliveries visible again, if they are still pending.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn release_attempts(&self, ids: Vec<DeliveryId>) -> Result<(), StoreError> {
        self.home
            .write(move |conn| {
                for id in ids {
                    diesel::sql_query("UPDATE deliveries SET visible_at = NULL WHERE id = ? AND state = 'pending'")
                        .bind::<Uid, _>(Key(id.0))
                        .execute(conn)?;
                }
                Ok(())
            })
            .await
    }

    /// Ends a delivery that cannot be dealt with, with a dead letter that says why.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn bury_attempt(
        &self,
        id: DeliveryId,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.home
            .write(move |conn| bury_delivery(conn, id, &reason, now))
            .await
    }

    /// When the next attempt is due that nobody has.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let next = self
            .number("SELECT min(coalesce(visible_at, due)) AS value FROM deliveries WHERE state = 'pending'")
            .await?;
        Ok(next.map(Timestamp::from_unix_micros))
    }

    /// How many attempts are due now.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub async fn attempts_waiting(&self, now: Timestamp) -> Result<u64, StoreError> {
        let waiting = self
            .home
            .read(move |conn| {
                Ok(diesel::sql_query(
                    "SELECT count(*) AS value FROM deliveries WHERE state = 'pending' AND coalesce(visible_at, due) <= ?",
                )
                .bind::<BigInt, _>(now.unix_micros())
                .get_result::<Number>(conn)?)
            })
            .await?;
        Ok(waiting.value.unwrap_or_default().unsigned_abs())
    }

    /// Whether the queue can be used.
    pub fn is_ready(&self) -> bool {
        self.home.is_ready()
    }

    async fn number(&self, query: &'static str) -> Result<Option<i64>, StoreError> {
        let number = self
            .home
            .read(move |conn| Ok(diesel::sql_query(query).get_result::<Number>(conn)?));
        Ok(number.await?.value)
    }
}

fn as_limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

struct DeadLetter<'a> {
    queue: &'a str,
    reason: &'a str,
    content_type: Option<String>,
    body: Vec<u8>,
}

fn insert_dead_letter(
    conn: &mut Conn,
    letter: DeadLetter<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    diesel::sql_query(
        "INSERT INTO dead_letters (queue, reason, content_type, body, created_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind::<Text, _>(letter.queue)
    .bind::<Text, _>(letter.reason)
    .bind::<Nullable<Text>, _>(letter.content_type)
    .bind::<Binary, _>(letter.body)
    .bind::<BigInt, _>(now.unix_micros())
    .execute(conn)?;
    Ok(())
}

fn bury_entry(conn: &mut Conn, id: i64, reason: &str, now: Timestamp) -> Result<(), StoreError> {
    diesel::sql_query(
        "INSERT INTO dead_letters (queue, reason, content_type, body, created_at)
         SELECT 'events', ?, content_type, body, ? FROM event_queue WHERE id = ?",
    )
    .bind::<Text, _>(reason)
    .bind::<BigInt, _>(now.unix_micros())
    .bind::<BigInt, _>(id)
    .execute(conn)?;
    delete_entry(conn, id)
}

fn delete_entry(conn: &mut Conn, id: i64) -> Result<(), StoreError> {
    diesel::sql_query("DELETE FROM event_queue WHERE id = ?")
        .bind::<BigInt, _>(id)
        .execute(conn)?;
    Ok(())
}

fn bury_delivery(
    conn: &mut Conn,
    id: DeliveryId,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    end(
        conn,
        &[id],
        DeliveryState::Exhausted {
            at: now,
            why: GaveUp::Poison,
        },
    )?;
    let letter = DeadLetter {
        queue: "deliveries",
        reason,
        content_type: None,
        body: id.0.as_bytes().to_vec(),
    };
    insert_dead_letter(conn, letter, now)
}
