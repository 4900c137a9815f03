//! Requests with an idempotency key: who may answer one, and the answers that are kept.

use diesel::prelude::*;
use hookline_core::retention::REPEATS_KEPT;
use hookline_core::timestamp::Timestamp;
use uuid::Uuid;

use super::super::Conn;
use super::ROWS;
use crate::error::StoreError;
use crate::records::{Claim, Claimed, KeyedRequest, Once};
use crate::schema::keyed_requests;

type Row = (Vec<u8>, i64, i64, Option<String>, i64);

/// Claims a request unless another one has. Of two that do so at once one is first: the primary key and
/// the number of the claim that is taken over decide.
pub(crate) fn claim(
    conn: &mut Conn,
    request: &KeyedRequest,
    now: Timestamp,
) -> Result<Claimed, StoreError> {
    let claim = Claim {
        id: request.id,
        number: Uuid::new_v4().as_u64_pair().0.cast_signed(),
    };
    conn.transaction(|conn| {
        let values = (
            keyed_requests::fingerprint.eq(request.fingerprint.to_vec()),
            keyed_requests::claim.eq(claim.number),
            keyed_requests::claimed_until.eq(request.claimed_until.unix_micros()),
            keyed_requests::answer.eq(None::<String>),
            keyed_requests::created_at.eq(now.unix_micros()),
        );
        let inserted = diesel::insert_into(keyed_requests::table)
            .values((keyed_requests::id.eq(request.id.to_vec()), values.clone()))
            .on_conflict_do_nothing()
            .execute(conn)?;
        if inserted == 1 {
            return Ok(Claimed::First(claim));
        }
        let row: Option<Row> = keyed_requests::table
            .find(request.id.to_vec())
            .select((
                keyed_requests::fingerprint,
                keyed_requests::claim,
                keyed_requests::claimed_until,
                keyed_requests::answer,
                keyed_requests::created_at,
            ))
            .first(conn)
            .optional()?;
        // It was given back between the two statements.
        let Some((fingerprint, number, claimed_until, answer, created_at)) = row else {
            return Ok(Claimed::Running);
        };
        let forgotten = now.before(REPEATS_KEPT).unix_micros();
        if created_at > forgotten {
            if fingerprint != request.fingerprint {
                return Ok(Claimed::OtherBody);
            }
            if let Some(answer) = answer {
                return Ok(Claimed::Repeat(answer));
            }
        }
        if claimed_until > now.unix_micros() {
            return Ok(Claimed::Running);
        }
        let unanswered = keyed_requests::answer.is_null();
        let taken_over = diesel::update(keyed_requests::table.find(request.id.to_vec()))
            .filter(keyed_requests::claim.eq(number))
            .filter(unanswered.or(keyed_requests::created_at.le(forgotten)))
            .set(values)
            .execute(conn)?;
        match taken_over {
            1 => Ok(Claimed::First(claim)),
            _ => Ok(Claimed::Running),
        }
    })
}

/// Does `work`, and keeps its answer in the same transaction. A claim that was taken over meanwhile
/// undoes the work.
pub(crate) fn once<T>(
    conn: &mut Conn,
    once: Option<Once<T>>,
    work: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let Some(Once { claim, answer }) = once else {
        return work(conn);
    };
    conn.transaction(|conn| {
        let made = work(conn)?;
        let mine = keyed_requests::table
            .filter(keyed_requests::id.eq(claim.id.to_vec()))
            .filter(keyed_requests::claim.eq(claim.number));
        let stands = match answer(&made) {
            Some(answer) => diesel::update(mine)
                .set(keyed_requests::answer.eq(answer))
                .execute(conn)?,
            None => diesel::delete(mine).execute(conn)?,
        };
        match stands {
            1 => Ok(made),
            _ => Err(StoreError::Stale),
        }
    })
}

/// Gives a claim back: the request was refused, and may be made again with another body.
pub(crate) fn give_back(conn: &mut Conn, claim: Claim) -> Result<(), StoreError> {
    diesel::delete(keyed_requests::table.find(claim.id.to_vec()))
        .filter(keyed_requests::claim.eq(claim.number))
        .filter(keyed_requests::answer.is_null())
        .execute(conn)?;
    Ok(())
}

/// Forgets some requests made before `cutoff`, and answers with how many; 0: there are no more.
pub(crate) fn forget(conn: &mut Conn, cutoff: Timestamp) -> Result<usize, StoreError> {
    let ids: Vec<Vec<u8>> = keyed_requests::table
        .filter(keyed_requests::created_at.lt(cutoff.unix_micros()))
        .order(keyed_requests::created_at)
        .limit(i64::try_from(ROWS).unwrap_or(i64::MAX))
        .select(keyed_requests::id)
        .load(conn)?;
    // A row that was claimed anew meanwhile stays.
    let gone = keyed_requests::table
        .filter(keyed_requests::id.eq_any(ids))
        .filter(keyed_requests::created_at.lt(cutoff.unix_micros()));
    Ok(diesel::delete(gone).execute(conn)?)
}
