//! Encryption of values in the database: AES-256-GCM under a master key, bound to the row.
//!
//! A sealed value is a version (1), the length and id of the key, a random nonce of 12 bytes, and the ciphertext with its
//! tag. The row and column are associated data, so a value that is copied to another row does not decrypt there. An
//! older value of the same row does: this protects against readers of the database, not against writers.
//!
//! 2^32 values may be sealed under one key (random nonces, NIST SP 800-38D).

use std::collections::HashMap;
use std::fmt;

use hookline_core::master_key::{MasterKey, MasterKeyId, MasterKeys};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

const VERSION: u8 = 1;

/// The row and column of a sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AssociatedData<'a> {
    /// The current or previous secret of this subscription.
    Secret(i64),
    /// The headers of this subscription.
    Headers(i64),
    /// Proves that a master key is the one of this id.
    Proof(&'a str),
    /// The answer of the request with this digest.
    Answer(&'a [u8; 32]),
}

impl fmt::Display for AssociatedData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AssociatedData::Secret(id) => write!(f, "subscriptions.secret:{id}"),
            AssociatedData::Headers(id) => write!(f, "subscriptions.headers:{id}"),
            AssociatedData::Proof(id) => write!(f, "master_keys.proof:{id}"),
            AssociatedData::Answer(id) => {
                write!(f, "idempotent_requests.answer:")?;
                id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// It was sealed under a key that this process does not have; after a restart it may.
    #[error("it is sealed under the master key {0}, which this process does not have")]
    UnknownKey(String),
    /// It was changed, belongs to another row, or is not sealed.
    #[error("it was changed outside of Hookline, or is not sealed")]
    Broken,
}

pub(crate) struct Keyring {
    primary: MasterKeyId,
    keys: HashMap<Box<str>, LessSafeKey>,
    random: SystemRandom,
}

/// No usable key, or no random bytes from the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EncryptError;

impl Keyring {
    pub(crate) fn new(keys: &MasterKeys) -> Result<Self, EncryptError> {
        let ready = |key: &MasterKey| {
            let unbound = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| EncryptError)?;
            Ok((key.id().as_str().into(), LessSafeKey::new(unbound)))
        };
        Ok(Self {
            primary: keys.primary().id().clone(),
            keys: keys.iter().map(ready).collect::<Result<_, _>>()?,
            random: SystemRandom::new(),
        })
    }

    pub(crate) fn primary(&self) -> &str {
        self.primary.as_str()
    }

    /// The first bytes of every value that is sealed under the primary key.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        let id = self.primary.as_str().as_bytes();
        let mut prefix = vec![VERSION, u8::try_from(id.len()).unwrap_or(u8::MAX)];
        prefix.extend_from_slice(id);
        prefix
    }

    pub(crate) fn seal(
        &self,
        place: AssociatedData<'_>,
        value: &[u8],
    ) -> Result<Vec<u8>, EncryptError> {
        let key = self.keys.get(self.primary()).ok_or(EncryptError)?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| EncryptError)?;
        let mut text = value.to_vec();
        let aad = Aad::from(place.to_string());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text)
            .map_err(|_| EncryptError)?;
        let mut sealed = self.prefix();
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut text);
        Ok(sealed)
    }

    pub(crate) fn open(
        &self,
        place: AssociatedData<'_>,
        sealed: &[u8],
    ) -> Result<Vec<u8>, DecryptError> {
        let (id, rest) = split(sealed).ok_or(DecryptError::Broken)?;
        let key = self
            .keys
            .get(id)
            .ok_or_else(|| DecryptError::UnknownKey(id.to_owned()))?;
        let (nonce, text) = rest.split_first_chunk().ok_or(DecryptError::Broken)?;
        let mut text = text.to_vec();
        let aad = Aad::from(place.to_string());
        let opened = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut text)
            .map_err(|_| DecryptError::Broken)?
            .len();
        text.truncate(opened);
        Ok(text)
    }

    /// Seals the value again under the primary key.
    pub(crate) fn reseal(
        &self,
        place: AssociatedData<'_>,
        old: &[u8],
    ) -> Result<Vec<u8>, DecryptError> {
        let value = self.open(place, old)?;
        self.seal(place, &value).map_err(|_| DecryptError::Broken)
    }
}

/// The id of the key, and the nonce with what follows.
fn split(sealed: &[u8]) -> Option<(&str, &[u8])> {
    let (&[VERSION, length], rest) = sealed.split_first_chunk()? else {
        return None;
    };
    let (id, rest) = rest.split_at_checked(usize::from(length))?;
    Some((std::str::from_utf8(id).ok()?, rest))
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({}, …)", self.primary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[(&str, u8)]) -> Keyring {
        let key = |(id, byte): &(&str, u8)| {
            MasterKey::new(MasterKeyId::parse(id).unwrap(), [*byte; 32]).expose_text()
        };
        let text = keys.iter().map(key).collect::<Vec<_>>().join(",");
        Keyring::new(&MasterKeys::parse(&text, None).unwrap()).unwrap()
    }

    #[test]
    fn a_sealed_value_decrypts_only_in_its_row_and_column() {
        let ring = ring(&[("a", 1)]);
        let sealed = ring.seal(AssociatedData::Secret(7), b"hush").unwrap();
        assert!(!sealed.windows(4).any(|window| window == b"hush"));
        assert_eq!(
            ring.open(AssociatedData::Secret(7), &sealed).unwrap(),
            b"hush"
        );
        for elsewhere in [
            AssociatedData::Secret(8),
            AssociatedData::Headers(7),
            AssociatedData::Proof("7"),
            AssociatedData::Answer(&[7; 32]),
        ] {
            assert_eq!(ring.open(elsewhere, &sealed), Err(DecryptError::Broken));
        }
    }

    #[test]
    fn a_value_is_never_sealed_to_the_same_ciphertext_twice() {
        let ring = ring(&[("a", 1)]);
        let seal = || ring.seal(AssociatedData::Secret(7), b"hush").unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn a_changed_value_does_not_open() {
        let ring = ring(&[("a", 1)]);
        let sealed = ring.seal(AssociatedData::Secret(7), b"hush").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(
                ring.open(AssociatedData::Secret(7), &changed).is_err(),
                "byte {at}"
            );
            assert!(ring.open(AssociatedData::Secret(7), &sealed[..at]).is_err());
        }
        for open in [&b"hush"[..], b"\0hush", b""] {
            assert_eq!(
                ring.open(AssociatedData::Secret(7), open),
                Err(DecryptError::Broken)
            );
        }
    }

    #[test]
    fn another_key_opens_what_was_sealed_before_and_seals_it_anew() {
        let old = ring(&[("a", 1)]);
        let both = ring(&[("b", 2), ("a", 1)]);
        let new = ring(&[("b", 2)]);
        let sealed = old.seal(AssociatedData::Secret(7), b"hush").unwrap();
        assert_eq!(
            both.open(AssociatedData::Secret(7), &sealed).unwrap(),
            b"hush"
        );
        let unknown = DecryptError::UnknownKey("a".to_owned());
        assert_eq!(new.open(AssociatedData::Secret(7), &sealed), Err(unknown));
        let again = both.reseal(AssociatedData::Secret(7), &sealed).unwrap();
        assert!(again.starts_with(&new.prefix()) && !sealed.starts_with(&new.prefix()));
        assert_eq!(
            new.open(AssociatedData::Secret(7), &again).unwrap(),
            b"hush"
        );
    }

    #[test]
    fn a_wrong_key_of_the_right_id_opens_nothing() {
        let sealed = ring(&[("a", 1)])
            .seal(AssociatedData::Secret(7), b"hush")
            .unwrap();
        let wrong = ring(&[("a", 2)]).open(AssociatedData::Secret(7), &sealed);
        assert_eq!(wrong, Err(DecryptError::Broken));
    }
}
