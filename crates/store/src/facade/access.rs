//! Organizations, and the keys that open them.

use hookline_core::access::Access;
use hookline_core::ids::{KeyId, OrganizationId};
use hookline_core::timestamp::Timestamp;

use super::{Home, Store, run};
use crate::error::StoreError;
use crate::records::{KeyHash, KeyInfo, NewKey};
use crate::{postgres, sqlite};

impl Store {
    /// Makes an organization; false when there is one of this id.
    pub async fn create_organization(
        &self,
        id: OrganizationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        run!(self, write, |conn, q| q::access::create_organization(
            conn, &id, now
        ))
    }

    /// Every organization and since when there is one.
    pub async fn organizations(&self) -> Result<Vec<(OrganizationId, Timestamp)>, StoreError> {
        run!(self, read, |conn, q| q::access::organizations(conn))
    }

    /// Makes a key; none when one of its organizations does not exist.
    pub async fn create_key(
        &self,
        key: NewKey,
        now: Timestamp,
    ) -> Result<Option<KeyId>, StoreError> {
        run!(self, write, |conn, q| q::access::create_key(
            conn, &key, now
        ))
    }

    /// Every key, revoked ones too.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>, StoreError> {
        run!(self, read, |conn, q| q::access::keys(conn))
    }

    /// Ends a key; false when there is none, or it was ended before.
    pub async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<bool, StoreError> {
        run!(self, write, |conn, q| q::access::revoke_key(conn, id, now))
    }

    /// What a key lets its bearer do; none when it is unknown, revoked or expired.
    pub async fn access_of(
        &self,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<Option<Access>, StoreError> {
        run!(self, read, |conn, q| q::access::access_of(conn, hash, now))
    }

    /// Notes that a key was used, to the minute.
    pub async fn note_key_use(&self, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::access::note_key_use(
            conn, id, now
        ))
    }
}
