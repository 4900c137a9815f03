//! Requests with an idempotency key.

use hookline_core::timestamp::Timestamp;

use super::{Home, Store, run};
use crate::error::StoreError;
use crate::records::{Claim, Claimed, KeyedRequest};
use crate::{postgres, sqlite};

impl Store {
    /// Claims a request, or says what has become of the first one.
    pub async fn claim(
        &self,
        request: KeyedRequest,
        now: Timestamp,
    ) -> Result<Claimed, StoreError> {
        run!(self, write, |conn, q| q::repeats::claim(
            conn, &request, now
        ))
    }

    /// Gives the claim of a refused request back.
    pub async fn give_back(&self, claim: Claim) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::repeats::give_back(conn, claim))
    }

    /// Forgets some requests made before `cutoff`, and answers with how many; 0: there are no more.
    pub async fn forget_repeats(&self, cutoff: Timestamp) -> Result<usize, StoreError> {
        run!(self, write, |conn, q| q::repeats::forget(conn, cutoff))
    }
}
