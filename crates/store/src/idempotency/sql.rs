//! Queries of idempotency keys: claims and stored answers.

use diesel::prelude::*;
use hookline_core::retention::REPEATS_KEPT;
use hookline_core::timestamp::Timestamp;
use uuid::Uuid;

use crate::backend::{ROWS, backends};
use crate::crypto::encryption::{AssociatedData, Keyring};
use crate::error::StoreError;
use crate::idempotency::{
    ClaimResult, IdempotentRequest, RequestClaim, RequestDigest, SealedOnce, StoredAnswer,
};
use crate::master_keys::substr;
use crate::schema::idempotent_requests;

#[derive(Queryable, Selectable)]
#[diesel(table_name = idempotent_requests)]
struct IdempotentRequestRow {
    fingerprint: Vec<u8>,
    claim: i64,
    claimed_until: i64,
    answer: Option<String>,
    sealed_answer: Option<Vec<u8>>,
    created_at: i64,
}

impl IdempotentRequestRow {
    fn stored_answer(self) -> Option<StoredAnswer> {
        let plain = self.answer.map(StoredAnswer::Plain);
        self.sealed_answer.map(StoredAnswer::Sealed).or(plain)
    }
}

backends!(
    use backend::Conn;

    /// One of two simultaneous claims succeeds. The primary key decides, or the number of the claim that is taken over.
    pub(crate) fn claim(
        conn: &mut Conn,
        request: &IdempotentRequest,
        now: Timestamp,
    ) -> Result<ClaimResult<StoredAnswer>, StoreError> {
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
                idempotent_requests::sealed_answer.eq(None::<Vec<u8>>),
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
                .select(IdempotentRequestRow::as_select())
                .first(conn)
                .optional()?;
            // It was released between the two statements.
            let Some(row) = row else {
                return Ok(ClaimResult::Running);
            };
            let (number, claimed_until) = (row.claim, row.claimed_until);
            let forgotten = now.before(REPEATS_KEPT).unix_micros();
            if row.created_at > forgotten {
                if row.fingerprint != request.fingerprint {
                    return Ok(ClaimResult::OtherBody);
                }
                if let Some(answer) = row.stored_answer() {
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
        once: Option<SealedOnce<T>>,
        work: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(SealedOnce { claim, answer }) = once else {
            return work(conn);
        };
        conn.transaction(|conn| {
            let made = work(conn)?;
            let own_row = idempotent_requests::table
                .filter(idempotent_requests::id.eq(claim.id.to_vec()))
                .filter(idempotent_requests::claim.eq(claim.number));
            let stands = match answer(&made)? {
                Some(sealed) => diesel::update(own_row)
                    .set((
                        // A service of an earlier version sees that there is an answer, and does not do the work again.
                        idempotent_requests::answer.eq(""),
                        idempotent_requests::sealed_answer.eq(sealed),
                    ))
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

    pub(crate) fn reseal(
        conn: &mut Conn,
        keyring: &Keyring,
        after: &[u8],
        limit: u32,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let prefix = keyring.prefix();
        let length = i32::try_from(prefix.len()).unwrap_or(i32::MAX);
        conn.transaction(|conn| {
            let rows: Vec<(Vec<u8>, Option<Vec<u8>>)> = idempotent_requests::table
                .filter(idempotent_requests::id.gt(after.to_vec()))
                .filter(substr(idempotent_requests::sealed_answer, 1, length).ne(prefix))
                .order(idempotent_requests::id)
                .limit(i64::from(limit))
                .select((idempotent_requests::id, idempotent_requests::sealed_answer))
                .load(conn)?;
            let last = rows.last().map(|(id, _)| id.clone());
            for (id, old) in rows {
                let digest = RequestDigest::try_from(id.as_slice()).ok();
                let anew = digest.zip(old.as_ref()).and_then(|(digest, old)| {
                    let place = AssociatedData::Answer(&digest);
                    keyring.reseal(place, old).ok()
                });
                if let Some(anew) = anew {
                    diesel::update(idempotent_requests::table.find(id))
                        .filter(idempotent_requests::sealed_answer.eq(old))
                        .set(idempotent_requests::sealed_answer.eq(anew))
                        .execute(conn)?;
                }
            }
            Ok(last)
        })
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
