//! Master keys in use, and their rotation (rekey).
//!
//! A transaction that seals a value also stores the proof of its key, under the lock of the version row. The last step of
//! a rekey takes the same lock. A proof therefore exists for as long as a value may be sealed under its key, and a
//! process without that key fails at its start.

use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::{Binary, Integer, Nullable};
use hookline_core::master_key::MasterKeys;

use crate::backend::backends;
use crate::crypto::credentials::{Credentials, SealedCredentials};
use crate::crypto::encryption::{AssociatedData, DecryptError, Keyring};
use crate::error::StoreError;
use crate::schema::{master_keys, subscriptions};
use crate::store::{Store, run};

/// Proves that a master key is the one of its id.
#[derive(Debug, Clone)]
pub(crate) struct MasterKeyProof {
    pub(crate) id: String,
    pub(crate) proof: Vec<u8>,
}

/// The result of one step of a rekey.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResealResult {
    /// Subscriptions that were sealed again.
    pub subscriptions: usize,
    /// Subscriptions with a value that did not decrypt, by id. The value stays as it is.
    pub unopened: Vec<(i64, DecryptError)>,
    /// The last subscription that it looked at; none at the end.
    pub last: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    #[error("the database has values under the master key {0}, which is not among the given ones")]
    Missing(String),
    #[error("the key {0} is not the one that the database's values are sealed under")]
    Wrong(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Checks the keys against the proofs in the database, and returns the store with them. In an empty database it
    /// stores the proof of the primary key.
    ///
    /// # Errors
    /// [`UnlockError`] when a key is missing or differs from before.
    pub async fn unlock(mut self, keys: &MasterKeys) -> Result<Self, UnlockError> {
        let keyring = Arc::new(Keyring::new(keys).map_err(StoreError::from)?);
        let known = run!(self, read, |conn, q: self| q::proofs(conn))?;
        fit(&keyring, known)?;
        // Only now: a process with wrong keys must not store a proof that stops the others. Two processes that start at
        // once with two keys of one id find out here.
        let ring = Arc::clone(&keyring);
        let known = run!(self, write, |conn, q: self| {
            q::ensure_proof(conn, &ring)?;
            q::proofs(conn)
        })?;
        fit(&keyring, known)?;
        self.keyring = Some(keyring);
        Ok(self)
    }

    /// Decrypts the secrets and headers of a request.
    ///
    /// # Errors
    /// Always [`DecryptError`] where the store is not unlocked.
    pub fn open(&self, sealed: &SealedCredentials) -> Result<Credentials, DecryptError> {
        match &self.keyring {
            Some(keyring) => sealed.open(keyring),
            None => Err(DecryptError::UnknownKey("(none is given)".to_owned())),
        }
    }

    /// Seals up to `limit` subscriptions after `after` under the primary key. A value that is changed meanwhile keeps the
    /// change.
    pub async fn reseal(&self, after: Option<i64>, limit: u32) -> Result<ResealResult, StoreError> {
        let keyring = self.keyring()?;
        let after = after.unwrap_or(i64::MIN);
        run!(self, write, |conn, q: self| q::reseal(
            conn, &keyring, after, limit
        ))
    }

    /// Deletes the proofs of every key but the primary one, unless a value is sealed under another. Answers with the
    /// number of subscriptions that have such a value.
    pub async fn forget_other_keys(&self) -> Result<u64, StoreError> {
        let keyring = self.keyring()?;
        run!(self, write, |conn, q: self| q::forget_others(
            conn, &keyring
        ))
    }

    pub(crate) fn keyring(&self) -> Result<Arc<Keyring>, StoreError> {
        let locked = || StoreError::Refused("no master key was given".to_owned());
        self.keyring.clone().ok_or_else(locked)
    }
}

#[diesel::declare_sql_function]
extern "SQL" {
    fn substr(value: Nullable<Binary>, from: Integer, count: Integer) -> Nullable<Binary>;
}

type SealedRow = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

enum ResealError {
    Decrypt(DecryptError),
    Store(StoreError),
}

/// Subscriptions after `after` with a value that is not sealed under the primary key.
macro_rules! others {
    ($keyring:expr, $after:expr) => {{
        let prefix = $keyring.prefix();
        let length = i32::try_from(prefix.len()).unwrap_or(i32::MAX);
        subscriptions::table
            .filter(subscriptions::id.gt($after))
            .filter(
                substr(subscriptions::secret, 1, length)
                    .ne(prefix.clone())
                    .or(substr(subscriptions::previous_secret, 1, length).ne(prefix.clone()))
                    .or(subscriptions::headers
                        .ne(Vec::new())
                        .and(substr(subscriptions::headers.nullable(), 1, length).ne(prefix))),
            )
    }};
}

backends!(
    with {
        subscription_version_queries: crate::subscription_version,
    }

    use backend::Conn;
    use subscription_version_queries::next_version;

    pub(crate) fn proofs(conn: &mut Conn) -> Result<Vec<MasterKeyProof>, StoreError> {
        let rows: Vec<(String, Vec<u8>)> = master_keys::table
            .order(master_keys::id)
            .select((master_keys::id, master_keys::proof))
            .load(conn)?;
        let proofs = rows.into_iter();
        Ok(proofs
            .map(|(id, proof)| MasterKeyProof { id, proof })
            .collect())
    }

    /// Stores the proof of the primary key, where there is none.
    pub(crate) fn ensure_proof(conn: &mut Conn, keyring: &Keyring) -> Result<(), StoreError> {
        let id = keyring.primary();
        let known: i64 = master_keys::table
            .filter(master_keys::id.eq(id))
            .count()
            .get_result(conn)?;
        if known == 0 {
            let proof = keyring.seal(AssociatedData::Proof(id), b"")?;
            diesel::insert_into(master_keys::table)
                .values((master_keys::id.eq(id), master_keys::proof.eq(proof)))
                .on_conflict_do_nothing()
                .execute(conn)?;
        }
        Ok(())
    }

    /// A value that was changed meanwhile stays as it is.
    pub(crate) fn reseal(
        conn: &mut Conn,
        keyring: &Keyring,
        after: i64,
        limit: u32,
    ) -> Result<ResealResult, StoreError> {
        conn.transaction(|conn| {
            ensure_proof(conn, keyring)?;
            let rows: Vec<SealedRow> = others!(keyring, after)
                .order(subscriptions::id)
                .limit(i64::from(limit))
                .select((
                    subscriptions::id,
                    subscriptions::secret,
                    subscriptions::previous_secret,
                    subscriptions::headers,
                ))
                .load(conn)?;
            let mut resealed = ResealResult {
                last: rows.last().map(|row| row.0),
                ..ResealResult::default()
            };
            for row in rows {
                match reseal_row(conn, keyring, &row) {
                    Ok(()) => resealed.subscriptions += 1,
                    Err(ResealError::Decrypt(why)) => resealed.unopened.push((row.0, why)),
                    Err(ResealError::Store(why)) => return Err(why),
                }
            }
            Ok(resealed)
        })
    }

    fn reseal_row(conn: &mut Conn, keyring: &Keyring, row: &SealedRow) -> Result<(), ResealError> {
        let (id, secret, previous, headers) = row;
        let anew = |place, old: &Vec<u8>| keyring.reseal(place, old).map_err(ResealError::Decrypt);
        let failed = |why| ResealError::Store(StoreError::from(why));
        let this = || subscriptions::table.find(*id);
        if let Some(old) = secret {
            let new = anew(AssociatedData::Secret(*id), old)?;
            diesel::update(this().filter(subscriptions::secret.eq(old)))
                .set(subscriptions::secret.eq(new))
                .execute(conn)
                .map_err(failed)?;
        }
        if let Some(old) = previous {
            let new = anew(AssociatedData::Secret(*id), old)?;
            diesel::update(this().filter(subscriptions::previous_secret.eq(old)))
                .set(subscriptions::previous_secret.eq(new))
                .execute(conn)
                .map_err(failed)?;
        }
        if !headers.is_empty() {
            let new = anew(AssociatedData::Headers(*id), headers)?;
            diesel::update(this().filter(subscriptions::headers.eq(headers)))
                .set(subscriptions::headers.eq(new))
                .execute(conn)
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Answers with the number of subscriptions that still have a value under another key.
    pub(crate) fn forget_others(conn: &mut Conn, keyring: &Keyring) -> Result<u64, StoreError> {
        conn.transaction(|conn| {
            // A transaction that seals a value holds this lock, too.
            next_version(conn)?;
            let left: i64 = others!(keyring, i64::MIN).count().get_result(conn)?;
            if left == 0 {
                diesel::delete(master_keys::table.filter(master_keys::id.ne(keyring.primary())))
                    .execute(conn)?;
            }
            Ok(u64::try_from(left).unwrap_or_default())
        })
    }
);

/// Checks the keys against the proofs in the database.
fn fit(keyring: &Keyring, known: Vec<MasterKeyProof>) -> Result<(), UnlockError> {
    for MasterKeyProof { id, proof } in known {
        match keyring.open(AssociatedData::Proof(&id), &proof) {
            Ok(_) => {}
            Err(DecryptError::UnknownKey(id)) => return Err(UnlockError::Missing(id)),
            Err(DecryptError::Broken) => return Err(UnlockError::Wrong(id)),
        }
    }
    Ok(())
}
