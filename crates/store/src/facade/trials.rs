//! Published events and deliveries of which a process may have died.

use std::collections::HashMap;

use hookline_core::ids::TrialKey;
use hookline_core::timestamp::Timestamp;

use super::{Home, Store, run};
use crate::error::StoreError;
use crate::{postgres, sqlite};

impl Store {
    /// How often each was charged with the end of a process; one that never was is not in the answer.
    pub async fn charges(&self, keys: Vec<TrialKey>) -> Result<HashMap<TrialKey, u32>, StoreError> {
        run!(self, read, |conn, q| q::trials::charges(conn, &keys))
    }

    /// Charges each with the end of a process, until [`Store::end_trials`].
    pub async fn begin_trials(
        &self,
        keys: Vec<TrialKey>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::trials::begin(conn, &keys, now))
    }

    /// Takes all charges against these back: the process lives on.
    pub async fn end_trials(&self, keys: Vec<TrialKey>) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::trials::end(conn, &keys))
    }

    /// Forgets charges from before `cutoff`.
    pub async fn forget_trials(&self, cutoff: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::trials::forget(conn, cutoff))
    }
}
