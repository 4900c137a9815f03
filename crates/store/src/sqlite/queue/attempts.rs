//! Owed attempts: each pending delivery's row is its entry.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use hookline_core::delivery::{DeliveryState, GaveUp, OwedAttempt};
use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

use super::super::Conn;
use super::super::kept::kept;
use super::super::queries::progress::end;
use super::{EmbeddedQueue, TAKES, as_limit};
use crate::columns::{Key, Uid};
use crate::error::StoreError;
use crate::rows::NextAttempt;

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
    #[diesel(embed)]
    next: NextAttempt,
    #[diesel(sql_type = Integer)]
    takes: i32,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = Nullable<BigInt>)]
    value: Option<i64>,
}

impl EmbeddedQueue {
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
                     RETURNING id, generation, attempts, subscription_id, takes",
                )
                .bind::<BigInt, _>(lease.unix_micros())
                .bind::<BigInt, _>(now.unix_micros())
                .bind::<BigInt, _>(as_limit(max))
                .load(conn)?;
                let mut taken = Vec::with_capacity(entries.len());
                for AttemptEntry { next, takes } in entries {
                    let owed = OwedAttempt::from(next);
                    if takes > TAKES {
                        bury_delivery(conn, owed, "taken too often", now)?;
                        continue;
                    }
                    taken.push(TakenAttempt { owed, takes });
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
                    kept(
                        "UPDATE deliveries SET visible_at = NULL WHERE id = ? AND state = 'pending'",
                        &[&Key(id.0).into_sql::<Uid>()],
                    )
                    .execute(conn)?;
                }
                Ok(())
            })
            .await
    }

    /// Makes deliveries visible again as if they had not been taken, if they are still pending.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    pub async fn put_back_attempts(&self, ids: Vec<DeliveryId>) -> Result<(), StoreError> {
        self.home
            .write(move |conn| {
                for id in ids {
                    kept(
                        "UPDATE deliveries SET visible_at = NULL, takes = max(takes - 1, 0)
                          WHERE id = ? AND state = 'pending'",
                        &[&Key(id.0).into_sql::<Uid>()],
                    )
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
        owed: OwedAttempt,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.home
            .write(move |conn| bury_delivery(conn, owed, &reason, now))
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

    pub(super) async fn number(&self, query: &'static str) -> Result<Option<i64>, StoreError> {
        let number = self
            .home
            .read(move |conn| Ok(diesel::sql_query(query).get_result::<Number>(conn)?));
        Ok(number.await?.value)
    }
}

fn bury_delivery(
    conn: &mut Conn,
    owed: OwedAttempt,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    end(
        conn,
        &[owed],
        DeliveryState::Exhausted {
            at: now,
            why: GaveUp::Poison,
        },
    )?;
    diesel::sql_query(
        "INSERT INTO dead_letters (queue, reason, body, created_at) VALUES ('deliveries', ?, ?, ?)",
    )
    .bind::<Text, _>(reason)
    .bind::<Uid, _>(Key(owed.delivery.0))
    .bind::<BigInt, _>(now.unix_micros())
    .execute(conn)?;
    Ok(())
}
