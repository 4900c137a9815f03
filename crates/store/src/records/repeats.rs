//! Requests with an idempotency key. The first one claims the key's row; the transaction that makes
//! what the request creates also writes the answer into that row, if the claim still stands.

use hookline_core::timestamp::Timestamp;
use ring::{digest, hmac};

/// Digests under an API key, which a store never holds. A digest of a body with a weak secret therefore
/// cannot be tried out by a reader of the database.
pub struct RequestDigests(hmac::Key);

/// HMAC-SHA256.
pub type Digest = [u8; 32];

impl RequestDigests {
    /// Digests under this API key.
    pub fn of(api_key: &str) -> Self {
        // Not the bytes that KeyHash hashes: HMAC shortens a long key to that very hash.
        let mut bytes = b"hookline idempotency key\0".to_vec();
        bytes.extend_from_slice(api_key.as_bytes());
        let key = digest::digest(&digest::SHA256, &bytes);
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    /// One digest of all parts, each with its length in front.
    pub fn digest(&self, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

/// A request with an idempotency key.
#[derive(Debug, Clone, Copy)]
pub struct KeyedRequest {
    /// Of the API key, the organization, the method, the path and the idempotency key.
    pub id: Digest,
    /// Of the body.
    pub fingerprint: Digest,
    /// Until then a claim stands, whatever became of the request that made it.
    pub claimed_until: Timestamp,
}

/// The right to answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub(crate) id: Digest,
    /// Another one for each claim of a row.
    pub(crate) number: i64,
}

/// What a request with an idempotency key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It is to be answered.
    First(Claim),
    /// A repeat of a request that has this answer.
    Repeat(String),
    /// A repeat of a request that has no answer yet.
    Running,
    /// Its key belongs to a request with another body.
    OtherBody,
}

/// How the answer that is kept is made of what was created.
pub type AnswerOf<T> = Box<dyn FnOnce(&T) -> Option<String> + Send>;

/// A claim, and how the answer is made of what the transaction has made; None keeps no answer and
/// gives the claim back.
pub struct Once<T> {
    /// The right to answer.
    pub claim: Claim,
    /// The answer of what was made.
    pub answer: AnswerOf<T>,
}

/// When something is made, and whether its request has an idempotency key.
pub struct Making<T> {
    /// The time of it.
    pub now: Timestamp,
    /// The claim of its request, if that has a key.
    pub once: Option<Once<T>>,
}

impl<T> From<Timestamp> for Making<T> {
    fn from(now: Timestamp) -> Self {
        Self { now, once: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::KeyHash;

    #[test]
    fn a_digest_needs_the_api_key_and_depends_on_every_part() {
        let digests = RequestDigests::of("k");
        let digest = digests.digest(&[b"a", b"bc"]);
        assert_eq!(digest, RequestDigests::of("k").digest(&[b"a", b"bc"]));
        for other in [
            RequestDigests::of("l").digest(&[b"a", b"bc"]),
            digests.digest(&[b"ab", b"c"]),
            digests.digest(&[b"abc"]),
        ] {
            assert_ne!(digest, other);
        }
    }

    #[test]
    fn the_hash_of_a_long_api_key_makes_no_digest() {
        let long = "k".repeat(100);
        let stored = hmac::Key::new(hmac::HMAC_SHA256, &KeyHash::of(&long).0);
        let mut made = hmac::Context::with_key(&stored);
        made.update(&1_u64.to_be_bytes());
        made.update(b"a");
        let digest = RequestDigests::of(&long).digest(&[b"a"]);
        assert_ne!(made.sign().as_ref(), digest);
    }
}
