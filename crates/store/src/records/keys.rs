//! API keys.

use hookline_core::access::Scope;
use hookline_core::ids::{KeyId, OrganizationId};
use hookline_core::timestamp::Timestamp;
use ring::digest;

/// The SHA-256 of an API key: all that a store ever sees of it. A key has 256 random bits, so a
/// fast hash is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub(crate) [u8; 32]);

impl KeyHash {
    /// The hash of a key as its bearer presents it.
    pub fn of(key: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
        Self(hash)
    }

    /// Whether it is this one, which takes the same time whatever differs.
    pub(crate) fn is(&self, stored: &[u8]) -> bool {
        let differing = self.0.iter().zip(stored).fold(0, |so_far, (ours, theirs)| {
            std::hint::black_box(so_far | (ours ^ theirs))
        });
        stored.len() == self.0.len() && differing == 0
    }
}

/// A key that is to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What its bearer will present, hashed.
    pub hash: KeyHash,
    /// What its owner calls it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// The organization of a request that names none.
    pub default_organization: OrganizationId,
    /// The further organizations that it belongs to.
    pub organizations: Vec<OrganizationId>,
    /// From when on it no longer works; never without one.
    pub expires_at: Option<Timestamp>,
}

/// A key in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its number, for revoking it.
    pub id: KeyId,
    /// What its owner calls it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// All organizations that it belongs to; a request that names none is for the first one.
    pub organizations: Vec<OrganizationId>,
    /// Since when there is one.
    pub created_at: Timestamp,
    /// Since when it no longer works, because an operator ended it.
    pub revoked_at: Option<Timestamp>,
    /// From when on it no longer works by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}
