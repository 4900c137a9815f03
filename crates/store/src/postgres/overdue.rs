//! Deliveries whose message seems to be lost: pending long after they were due.
//!
//! One sweep at a time, whoever makes it: the lock is the transaction's, so a sweeper that freezes
//! blocks nobody for longer than its statement may take. Each delivery that is handed on again
//! counts as overdue only after twice as long, so that a long backlog is not multiplied.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer};
use hookline_core::delivery::OwedAttempt;
use hookline_core::timestamp::Timestamp;

use super::Conn;
use crate::error::StoreError;
use crate::records::Sweep;
use crate::rows::NextAttempt;

/// The advisory lock of a sweep.
const LOCK: i64 = 0x686f_6f6b_7377_6570;

/// After this many times the wait is not doubled any more.
const DOUBLINGS: i32 = 8;

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Marks some overdue deliveries as handed on again and returns what is owed for them; nothing
/// while somebody else sweeps.
pub(crate) fn sweep(
    conn: &mut Conn,
    sweep: Sweep,
    now: Timestamp,
) -> Result<Vec<OwedAttempt>, StoreError> {
    conn.transaction(|conn| {
        let locked: Locked = diesel::sql_query("SELECT pg_try_advisory_xact_lock($1) AS locked")
            .bind::<BigInt, _>(LOCK)
            .get_result(conn)?;
        if !locked.locked {
            return Ok(Vec::new());
        }
        let grace = i64::try_from(sweep.grace.as_micros()).unwrap_or(i64::MAX);
        let overdue: Vec<NextAttempt> = diesel::sql_query(
            "UPDATE deliveries
                SET republished = republished + 1,
                    republish_after = $1 + $2 * ((1 << least(republished + 1, $3)) - 1)
              WHERE id IN (SELECT id FROM deliveries
                            WHERE state = 'pending' AND coalesce(republish_after, due) <= $1 - $2
                            ORDER BY coalesce(republish_after, due) LIMIT $4
                              FOR NO KEY UPDATE SKIP LOCKED)
             RETURNING id, generation, attempts, subscription_id",
        )
        .bind::<BigInt, _>(now.unix_micros())
        .bind::<BigInt, _>(grace)
        .bind::<Integer, _>(DOUBLINGS)
        .bind::<BigInt, _>(i64::from(sweep.limit))
        .load(conn)?;
        Ok(overdue.into_iter().map(OwedAttempt::from).collect())
    })
}
