//! Secrets and the keys that seal them.

use std::time::Duration;

use hookline_core::secret::Secret;
use hookline_core::subscription::Revision;
use hookline_core::timestamp::Timestamp;

use crate::sealed::Unopened;

/// What proves that a master key is the one of its id.
#[derive(Debug, Clone)]
pub(crate) struct MasterKeyProof {
    pub(crate) id: String,
    pub(crate) proof: Vec<u8>,
}

/// What a step of a rekey did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resealed {
    /// How many subscriptions it dealt with.
    pub subscriptions: usize,
    /// Those with something that could not be opened, by id; it stays as it is.
    pub unopened: Vec<(i64, Unopened)>,
    /// The last one that it looked at, or none when there was nothing left to do.
    pub last: Option<i64>,
}

/// A secret that is to take the place of the present one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The next one.
    pub secret: Secret,
    /// How long the present one signs, too.
    pub overlap: Duration,
}

/// What a rotation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// Until when the secret before signs, too; none if there was none, or no overlap.
    pub previous_valid_until: Option<Timestamp>,
    /// The subscription's, by this change.
    pub revision: Revision,
}
