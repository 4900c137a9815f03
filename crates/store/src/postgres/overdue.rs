//! Deliveries whose message seems to be lost: pending long after they were due.
//!
//! One sweep at a time, whoever makes it: the lock is the transaction's, so a sweeper that freezes
//! blocks nobody for longer than its statement may take. Each delivery that is handed on again
//! counts as overdue only after twice as long, so that a long backlog is not multiplied; and one
//! of which nothing ever comes, although nobody misses messages, is given up in the end. That is
//! what stops a message that the broker itself buries each time, because processes die of it
//! before they can tell which one it was.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use hookline_core::delivery::{GaveUp, OwedAttempt};
use hookline_core::timestamp::Timestamp;

use super::Conn;
use crate::error::StoreError;
use crate::records::{Sweep, Swept};
use crate::rows::NextAttempt;

/// The advisory lock of a sweep.
const LOCK: i64 = 0x686f_6f6b_7377_6570;

/// After this many times the wait is not doubled any more.
const DOUBLINGS: i32 = 8;

/// Who was handed on so often is given up when it is overdue once more: with a grace of a minute
/// that is 17 hours after it was due.
const TIMES: i32 = 10;

/// Who was put off meanwhile was in somebody's hands, and counts as handed on this often at most:
/// rarely enough not to be multiplied, and far from being given up.
pub(crate) const HALF_WAY: i32 = 5;

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

#[derive(QueryableByName)]
struct Overdue {
    #[diesel(embed)]
    next: NextAttempt,
    #[diesel(sql_type = Bool)]
    is_given_up: bool,
}

/// Marks some overdue deliveries as handed on again and returns what is owed for them, or ends them;
/// nothing while somebody else sweeps.
pub(crate) fn sweep(conn: &mut Conn, sweep: Sweep, now: Timestamp) -> Result<Swept, StoreError> {
    conn.transaction(|conn| {
        let locked: Locked = diesel::sql_query("SELECT pg_try_advisory_xact_lock($1) AS locked")
            .bind::<BigInt, _>(LOCK)
            .get_result(conn)?;
        if !locked.locked {
            return Ok(Swept::default());
        }
        let grace = i64::try_from(sweep.grace.as_micros()).unwrap_or(i64::MAX);
        let overdue: Vec<Overdue> = diesel::sql_query(
            "WITH overdue AS (
                 SELECT id, republished >= $5 AS is_given_up FROM deliveries
                  WHERE due IS NOT NULL AND coalesce(republish_after, due) <= $1 - $2
                  ORDER BY coalesce(republish_after, due) LIMIT $4
                    FOR NO KEY UPDATE SKIP LOCKED
             )
             UPDATE deliveries d
                SET republished = d.republished + 1,
                    republish_after = $1 + $2 * ((1 << least(d.republished + 1, $3)) - 1),
                    state = CASE WHEN o.is_given_up THEN 'exhausted' ELSE d.state END,
                    due = CASE WHEN NOT o.is_given_up THEN d.due END,
                    finished_at = CASE WHEN o.is_given_up THEN $1 END,
                    gave_up = CASE WHEN o.is_given_up THEN $6 END
               FROM overdue o WHERE d.id = o.id
             RETURNING d.id, d.generation, d.attempts, d.subscription_id, o.is_given_up",
        )
        .bind::<BigInt, _>(now.unix_micros())
        .bind::<BigInt, _>(grace)
        .bind::<Integer, _>(DOUBLINGS)
        .bind::<BigInt, _>(i64::from(sweep.limit))
        .bind::<Integer, _>(TIMES)
        .bind::<Text, _>(GaveUp::Poison.as_str())
        .load(conn)?;
        let mut swept = Swept::default();
        for Overdue { next, is_given_up } in overdue {
            let owed = OwedAttempt::from(next);
            match is_given_up {
                true => swept.given_up.push(owed.delivery),
                false => swept.again.push(owed),
            }
        }
        Ok(swept)
    })
}
