//! Queries of idempotency keys: claims and stored answers.

use diesel::prelude::*;
use hookline_core::retention::REPEATS_KEPT;
use hookline_core::timestamp::Timestamp;
use uuid::Uuid;

use crate::backend::{ROWS, backends};
use crate::error::StoreError;
use crate::idempotency::{AnswerOnce, ClaimResult, IdempotentRequest, RequestClaim};
use crate::schema::idempotent_requests;

type IdempotentRequestRow = (Vec<u8>, i64, i64, Option<String>, i64);

backends!(
    use backend::Conn;

    /// One of two simultaneous claims succeeds. The primary key decides, or the number of the claim that is taken over.
    pub(crate) fn claim(
        conn: &mut Conn,
        request: &IdempotentRequest,
        now: Timestamp,
    ) -> Result<ClaimResult, StoreError> {
        let claim = RequestClaim {
            id: request.id,
            number: Uuid::new_v4().as_u64_pair().0.cast_signed(),
        };
        conn.transaction(|conn| {
            let values = (
                idempotent_requests::fingerprint.eq(request.fingerprint.to_vec()),
                idempotent_requests::claim.eq(claim.number),
                idempotent_requests::claimed_until.eq(request.claimed_until.unix_micros()),
                idempotent_requests::answer.eq(None::<String>),
                idempotent_requests::created_at.eq(now.unix_micros()),
            );
            let inserted = diesel::insert_into(idempotent_requests::table)
                .values((
                    idempotent_requests::id.eq(request.id.to_vec()),
                    values.clone(),
                ))
                .on_conflict_do_nothing()
                .execute(conn)?;
            if inserted == 1 {
                return Ok(ClaimResult::First(claim));
            }
            let row: Option<IdempotentRequestRow> = idempotent_requests::table
                .find(request.id.to_vec())
                .select((
                    idempotent_requests::fingerprint,
                    idempotent_requests::claim,
                    idempotent_requests::claimed_until,
                    idempotent_requests::answer,
                    idempotent_requests::created_at,
                ))
                .first(conn)
                .optional()?;
            // It was released between the two statements.
            let Some((fingerprint, number, claimed_until, answer, created_at)) = row else {
                return Ok(ClaimResult::Running);
            };
            let forgotten = now.before(REPEATS_KEPT).unix_micros();
            if created_at > forgotten {
                if fingerprint != request.fingerprint {
                    return Ok(ClaimResult::OtherBody);
                }
                if let Some(answer) = answer {
                    return Ok(ClaimResult::Repeat(answer));
                }
            }
            if claimed_until > now.unix_micros() {
                return Ok(ClaimResult::Running);
            }
            let unanswered = idempotent_requests::answer.is_null();
            let taken_over = diesel::update(idempotent_requests::table.find(request.id.to_vec()))
                .filter(idempotent_requests::claim.eq(number))
                .filter(unanswered.or(idempotent_requests::created_at.le(forgotten)))
                .set(values)
                .execute(conn)?;
            match taken_over {
                1 => Ok(ClaimResult::First(claim)),
                _ => Ok(ClaimResult::Running),
            }
        })
    }

    /// Does `work` and stores its answer in one transaction. If the claim was taken over meanwhile, it rolls back.
    pub(crate) fn once<T>(
        conn: &mut Conn,
        once: Option<AnswerOnce<T>>,
        work: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(AnswerOnce { claim, answer }) = once else {
            return work(conn);
        };
        conn.transaction(|conn| {
            let made = work(conn)?;
            let own_row = idempotent_requests::table
                .filter(idempotent_requests::id.eq(claim.id.to_vec()))
                .filter(idempotent_requests::claim.eq(claim.number));
            let stands = match answer(&made) {
                Some(answer) => diesel::update(own_row)
                    .set(idempotent_requests::answer.eq(answer))
                    .execute(conn)?,
                None => diesel::delete(own_row).execute(conn)?,
            };
            match stands {
                1 => Ok(made),
                _ => Err(StoreError::Stale),
            }
        })
    }

    /// The request was refused, and may come again with another body.
    pub(crate) fn give_back(conn: &mut Conn, claim: RequestClaim) -> Result<(), StoreError> {
        diesel::delete(idempotent_requests::table.find(claim.id.to_vec()))
            .filter(idempotent_requests::claim.eq(claim.number))
            .filter(idempotent_requests::answer.is_null())
            .execute(conn)?;
        Ok(())
    }

    /// Deletes some requests from before `cutoff`. Answers with the number; 0 means that there are no more.
    pub(crate) fn forget(conn: &mut Conn, cutoff: Timestamp) -> Result<usize, StoreError> {
        let ids: Vec<Vec<u8>> = idempotent_requests::table
            .filter(idempotent_requests::created_at.lt(cutoff.unix_micros()))
            .order(idempotent_requests::created_at)
            .limit(i64::try_from(ROWS).unwrap_or(i64::MAX))
            .select(idempotent_requests::id)
            .load(conn)?;
        // A row that was claimed again meanwhile stays.
        let expired = idempotent_requests::table
            .filter(idempotent_requests::id.eq_any(ids))
            .filter(idempotent_requests::created_at.lt(cutoff.unix_micros()));
        Ok(diesel::delete(expired).execute(conn)?)
    }
);
