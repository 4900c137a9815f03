//! API keys, the organizations that they belong to, and their scopes.

use hookline_core::access::{Access, Scope};
use hookline_core::ids::{KeyId, OrganizationId};
use hookline_core::timestamp::Timestamp;
use ring::digest;

use crate::error::StoreError;
use crate::store::{Store, run};

pub(crate) mod sql;

/// The SHA-256 of an API key. The store never sees the key itself. A key has 256 random bits, so a fast hash suffices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub(crate) [u8; 32]);

impl KeyHash {
    pub fn of(key: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
        Self(hash)
    }

    /// Compares in constant time.
    pub(crate) fn is(&self, stored: &[u8]) -> bool {
        let differing = self.0.iter().zip(stored).fold(0, |so_far, (ours, theirs)| {
            std::hint::black_box(so_far | (ours ^ theirs))
        });
        stored.len() == self.0.len() && differing == 0
    }
}

#[derive(Debug, Clone)]
pub struct NewKey {
    pub hash: KeyHash,
    pub name: String,
    pub scopes: Vec<Scope>,
    /// The organization of a request that names none.
    pub default_organization: OrganizationId,
    /// Further organizations of the key.
    pub organizations: Vec<OrganizationId>,
    /// None: the key never expires.
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its number, for revoking it.
    pub id: KeyId,
    pub name: String,
    pub scopes: Vec<Scope>,
    /// The default organization comes first.
    pub organizations: Vec<OrganizationId>,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// To the minute.
    pub last_used_at: Option<Timestamp>,
}

impl Store {
    /// False when the organization exists.
    pub async fn create_organization(
        &self,
        id: OrganizationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        run!(self, write, |conn, q: sql| q::create_organization(
            conn, &id, now
        ))
    }

    /// Every organization and the time of its creation.
    pub async fn organizations(&self) -> Result<Vec<(OrganizationId, Timestamp)>, StoreError> {
        run!(self, read, |conn, q: sql| q::organizations(conn))
    }

    /// None when one of its organizations does not exist.
    pub async fn create_key(
        &self,
        key: NewKey,
        now: Timestamp,
    ) -> Result<Option<KeyId>, StoreError> {
        run!(self, write, |conn, q: sql| q::create_key(conn, &key, now))
    }

    pub async fn keys(&self) -> Result<Vec<KeyInfo>, StoreError> {
        run!(self, read, |conn, q: sql| q::keys(conn))
    }

    /// False when the key does not exist or is revoked already.
    pub async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<bool, StoreError> {
        run!(self, write, |conn, q: sql| q::revoke_key(conn, id, now))
    }

    /// None when the key is unknown, revoked or expired.
    pub async fn access_of(
        &self,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Access>, StoreError> {
        run!(self, read, |conn, q: sql| q::access_of(conn, hash, now))
    }

    /// Stores the last use of a key, to the minute.
    pub async fn note_key_use(&self, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::note_key_use(conn, id, now))
    }
}
