//! The master keys of a store: checked against what the database was sealed with, used, replaced.

use std::sync::Arc;

use hookline_core::master_key::MasterKeys;

use super::{Home, Store, run};
use crate::credentials::{Credentials, SealedCredentials};
use crate::error::StoreError;
use crate::records::{MasterKeyProof, Resealed};
use crate::sealed::{Keyring, Place, Unopened};
use crate::{postgres, sqlite};

/// Why master keys do not unlock a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// Something is sealed under a key that is not among them.
    #[error("the database has values under the master key {0}, which is not among the given ones")]
    Missing(String),
    /// A key has the id of another one.
    #[error("the key {0} is not the one that the database's values are sealed under")]
    Wrong(String),
    /// Secrets of an earlier version lie open.
    #[error("the database has secrets that are not sealed yet: run `hookline secrets rekey`")]
    NotSealed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whose values are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Sealed ones alone.
    Sealed,
    /// Also those that lie open, to seal them.
    Any,
}

impl Store {
    /// The store with the keys to what is sealed in it, once they have been found to fit. In an
    /// empty one, the primary key is remembered.
    ///
    /// # Errors
    /// [`UnlockError`] when a key is missing or another one than before.
    pub async fn unlock(self, keys: &MasterKeys) -> Result<Self, UnlockError> {
        self.unlock_for(keys, Expected::Sealed).await
    }

    /// The same for a rekey, which also seals what an earlier version left open.
    ///
    /// # Errors
    /// As [`Store::unlock`].
    pub async fn unlock_to_rekey(self, keys: &MasterKeys) -> Result<Self, UnlockError> {
        self.unlock_for(keys, Expected::Any).await
    }

    async fn unlock_for(
        mut self,
        keys: &MasterKeys,
        expected: Expected,
    ) -> Result<Self, UnlockError> {
        let keyring = Arc::new(Keyring::new(keys).map_err(StoreError::from)?);
        let known = run!(self, read, |conn, q| q::master_keys::proofs(conn))?;
        fit(&keyring, known, expected)?;
        // Only now: who has the wrong keys must not leave a trace that stops the others. Two that
        // start at once with two keys of one id find out here.
        let ring = Arc::clone(&keyring);
        let known = run!(self, write, |conn, q| {
            q::master_keys::ensure_proof(conn, &ring)?;
            q::master_keys::proofs(conn)
        })?;
        fit(&keyring, known, expected)?;
        self.keyring = Some(keyring);
        Ok(self)
    }

    /// What signs a request and goes with it.
    ///
    /// # Errors
    /// [`Unopened`] when it cannot be had; of a store that is not unlocked, ever.
    pub fn open(&self, sealed: &SealedCredentials) -> Result<Credentials, Unopened> {
        match &self.keyring {
            Some(keyring) => sealed.open(keyring),
            None => Err(Unopened::UnknownKey("(none is given)".to_owned())),
        }
    }

    /// Seals up to `limit` subscriptions after `after` under the primary key, where they are not
    /// yet. What somebody changes meanwhile stays as they leave it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written, or is locked.
    pub async fn reseal(&self, after: Option<i64>, limit: u32) -> Result<Resealed, StoreError> {
        let keyring = self.keyring()?;
        let after = after.unwrap_or(i64::MIN);
        run!(self, write, |conn, q| q::master_keys::reseal(
            conn, &keyring, after, limit
        ))
    }

    /// Forgets every key but the primary one, if nothing is sealed under another; answers with how
    /// many subscriptions still have something that is.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written, or is locked.
    pub async fn forget_other_keys(&self) -> Result<u64, StoreError> {
        let keyring = self.keyring()?;
        run!(self, write, |conn, q| q::master_keys::forget_others(
            conn, &keyring
        ))
    }

    pub(super) fn keyring(&self) -> Result<Arc<Keyring>, StoreError> {
        let locked = || StoreError::Refused("no master key was given".to_owned());
        self.keyring.clone().ok_or_else(locked)
    }
}

/// Whether these keys are those that the database knows.
fn fit(
    keyring: &Keyring,
    known: Vec<MasterKeyProof>,
    expected: Expected,
) -> Result<(), UnlockError> {
    for MasterKeyProof { id, proof } in known {
        if id.is_empty() {
            match expected {
                Expected::Sealed => return Err(UnlockError::NotSealed),
                Expected::Any => continue,
            }
        }
        match keyring.open(Place::Proof(&id), &proof) {
            Ok(_) => {}
            Err(Unopened::UnknownKey(id)) => return Err(UnlockError::Missing(id)),
            Err(Unopened::Broken) => return Err(UnlockError::Wrong(id)),
        }
    }
    Ok(())
}
