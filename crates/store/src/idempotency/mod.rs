//! Idempotency keys of API requests. The first request claims the row of its key. The transaction that does its work also
//! writes the answer into that row, if the claim is still valid. Answers are sealed under the master key, because some have a
//! secret.

use hookline_core::timestamp::Timestamp;
use ring::{digest, hmac};

use crate::crypto::encryption::{AssociatedData, DecryptError, EncryptError, Keyring};
use crate::error::StoreError;
use crate::store::{Store, run};

pub(crate) mod sql;

/// Digests keyed by the API key, which the store never holds. A reader of the database can therefore not guess a weak
/// secret in a body by its digest.
pub struct RequestDigests(hmac::Key);

/// HMAC-SHA256.
pub type RequestDigest = [u8; 32];

impl RequestDigests {
    pub fn of(api_key: &str) -> Self {
        // Not the input of KeyHash: HMAC would replace a long key by that very hash, which the store has.
        let mut bytes = b"hookline idempotency key\0".to_vec();
        bytes.extend_from_slice(api_key.as_bytes());
        let key = digest::digest(&digest::SHA256, &bytes);
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    /// One digest of all parts, each prefixed by its length.
    pub fn digest(&self, parts: &[&[u8]]) -> RequestDigest {
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
pub struct IdempotentRequest {
    /// The digest of the API key, the organization, the method, the path and the idempotency key.
    pub id: RequestDigest,
    pub fingerprint: RequestDigest,
    /// Until then the claim is valid, also if its request has died.
    pub claimed_until: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestClaim {
    pub(crate) id: RequestDigest,
    /// Differs for each claim of a row.
    pub(crate) number: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimResult<Answer = String> {
    /// The caller does the work and answers.
    First(RequestClaim),
    /// A repeat; this is the stored answer.
    Repeat(Answer),
    /// A repeat. The master key of the stored answer is gone, so it does not decrypt.
    Unreadable(DecryptError),
    /// A repeat of a request that is not answered yet.
    Running,
    /// The key was used for another body.
    OtherBody,
}

/// Makes the stored answer from the result of the work.
pub type AnswerOf<T> = Box<dyn FnOnce(&T) -> Option<String> + Send>;

/// A claim, and the function that makes the stored answer. None stores no answer and releases the claim.
pub struct AnswerOnce<T> {
    pub claim: RequestClaim,
    pub answer: AnswerOf<T>,
}

/// The same, with the answer as it is stored.
pub(crate) struct SealedOnce<T> {
    pub(crate) claim: RequestClaim,
    pub(crate) answer: SealedAnswerOf<T>,
}

type SealedAnswerOf<T> = Box<dyn FnOnce(&T) -> Result<Option<Vec<u8>>, EncryptError> + Send>;

/// A stored answer as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredAnswer {
    Sealed(Vec<u8>),
    /// Of an earlier version, which stored no secret.
    Plain(String),
}

impl StoredAnswer {
    fn open(self, id: &RequestDigest, keyring: &Keyring) -> Result<String, DecryptError> {
        match self {
            Self::Plain(answer) => Ok(answer),
            Self::Sealed(sealed) => {
                let answer = keyring.open(AssociatedData::Answer(id), &sealed)?;
                String::from_utf8(answer).map_err(|_| DecryptError::Broken)
            }
        }
    }
}

/// The time of a write, and the claim of its request.
pub struct Creation<T> {
    pub now: Timestamp,
    /// None for a request without an idempotency key.
    pub once: Option<AnswerOnce<T>>,
}

impl<T> From<Timestamp> for Creation<T> {
    fn from(now: Timestamp) -> Self {
        Self { now, once: None }
    }
}

impl Store {
    pub async fn claim(
        &self,
        request: IdempotentRequest,
        now: Timestamp,
    ) -> Result<ClaimResult, StoreError> {
        let keyring = self.keyring()?;
        let claimed = run!(self, write, |conn, q: sql| q::claim(conn, &request, now))?;
        Ok(match claimed {
            ClaimResult::First(claim) => ClaimResult::First(claim),
            ClaimResult::Running => ClaimResult::Running,
            ClaimResult::OtherBody => ClaimResult::OtherBody,
            ClaimResult::Unreadable(why) => ClaimResult::Unreadable(why),
            ClaimResult::Repeat(stored) => match stored.open(&request.id, &keyring) {
                Ok(answer) => ClaimResult::Repeat(answer),
                Err(why) => ClaimResult::Unreadable(why),
            },
        })
    }

    /// Seals the answer, where there is a claim to answer.
    pub(crate) fn sealing<T: 'static>(
        &self,
        once: Option<AnswerOnce<T>>,
    ) -> Result<Option<SealedOnce<T>>, StoreError> {
        let Some(AnswerOnce { claim, answer }) = once else {
            return Ok(None);
        };
        let keyring = self.keyring()?;
        let answer = Box::new(move |made: &T| {
            let seal =
                |answer: String| keyring.seal(AssociatedData::Answer(&claim.id), answer.as_bytes());
            answer(made).map(seal).transpose()
        });
        Ok(Some(SealedOnce { claim, answer }))
    }

    /// Seals under the primary key up to `limit` answers after `after` that are under another one. Answers with the last
    /// that it looked at; none at the end. An answer that does not decrypt stays as it is.
    pub async fn reseal_answers(
        &self,
        after: Vec<u8>,
        limit: u32,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let keyring = self.keyring()?;
        run!(self, write, |conn, q: sql| q::reseal(
            conn, &keyring, &after, limit
        ))
    }

    /// Releases the claim of a refused request.
    pub async fn give_back(&self, claim: RequestClaim) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::give_back(conn, claim))
    }

    /// Deletes some requests from before `cutoff`. Answers with the number; 0 means that there are no more.
    pub async fn forget_requests(&self, cutoff: Timestamp) -> Result<usize, StoreError> {
        run!(self, write, |conn, q: sql| q::forget(conn, cutoff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_keys::KeyHash;

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
