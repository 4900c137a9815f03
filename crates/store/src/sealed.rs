//! What may not lie open in the database: AES-256-GCM under a master key, bound to its place.
//!
//! A sealed value is a version (1), the key's id with its length before it, a random nonce of 12
//! bytes, and the ciphertext with its tag. The place that a value belongs to is authenticated, so
//! what is copied to another row does not open there. An older value put back into its own row
//! does: against whoever can write to the database this is no shield.
//!
//! 2^32 values may be sealed under one key (random nonces, NIST SP 800-38D).

use std::collections::HashMap;
use std::fmt;

use hookline_core::master_key::{MasterKey, MasterKeyId, MasterKeys};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

const VERSION: u8 = 1;

/// The version of what the first migration left open, which only a rekey reads.
const OPEN: u8 = 0;

/// Where a sealed value belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// A secret of this subscription, the present one or the one before.
    Secret(i64),
    /// The headers of this subscription.
    Headers(i64),
    /// What proves that a master key is the one of this id.
    Proof(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Secret(id) => write!(f, "subscriptions.secret:{id}"),
            Place::Headers(id) => write!(f, "subscriptions.headers:{id}"),
            Place::Proof(id) => write!(f, "master_keys.proof:{id}"),
        }
    }
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// It was sealed under a key that this process was not given: another start may have it.
    #[error("it is sealed under the master key {0}, which this process does not have")]
    UnknownKey(String),
    /// It was changed, or belongs elsewhere, or is not sealed at all.
    #[error("it was changed outside of Hookline, or is not sealed")]
    Broken,
}

/// The master keys, ready for work.
pub(crate) struct Keyring {
    primary: MasterKeyId,
    keys: HashMap<Box<str>, LessSafeKey>,
    random: SystemRandom,
}

/// No key can be used, or there is no chance to be had from the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsealable;

impl Keyring {
    pub(crate) fn new(keys: &MasterKeys) -> Result<Self, Unsealable> {
        let ready = |key: &MasterKey| {
            let unbound = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| Unsealable)?;
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

    /// What every value sealed under the primary key begins with.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        let id = self.primary.as_str().as_bytes();
        let mut prefix = vec![VERSION, u8::try_from(id.len()).unwrap_or(u8::MAX)];
        prefix.extend_from_slice(id);
        prefix
    }

    pub(crate) fn seal(&self, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let key = self.keys.get(self.primary()).ok_or(Unsealable)?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| Unsealable)?;
        let mut text = value.to_vec();
        let aad = Aad::from(place.to_string());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text)
            .map_err(|_| Unsealable)?;
        let mut sealed = self.prefix();
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut text);
        Ok(sealed)
    }

    pub(crate) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        let (id, rest) = split(sealed).ok_or(Unopened::Broken)?;
        let key = self
            .keys
            .get(id)
            .ok_or_else(|| Unopened::UnknownKey(id.to_owned()))?;
        let (nonce, text) = rest.split_first_chunk().ok_or(Unopened::Broken)?;
        let mut text = text.to_vec();
        let aad = Aad::from(place.to_string());
        let opened = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut text)
            .map_err(|_| Unopened::Broken)?
            .len();
        text.truncate(opened);
        Ok(text)
    }

    /// The value sealed anew under the primary key. What a database has from before anything was
    /// sealed is sealed for the first time.
    pub(crate) fn reseal(&self, place: Place<'_>, old: &[u8]) -> Result<Vec<u8>, Unopened> {
        let value = match old.split_first() {
            Some((&OPEN, value)) => value.to_vec(),
            _ => self.open(place, old)?,
        };
        self.seal(place, &value).map_err(|_| Unopened::Broken)
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
    fn what_is_sealed_opens_in_its_place_alone() {
        let ring = ring(&[("a", 1)]);
        let sealed = ring.seal(Place::Secret(7), b"hush").unwrap();
        assert!(!sealed.windows(4).any(|window| window == b"hush"));
        assert_eq!(ring.open(Place::Secret(7), &sealed).unwrap(), b"hush");
        for elsewhere in [Place::Secret(8), Place::Headers(7), Place::Proof("7")] {
            assert_eq!(ring.open(elsewhere, &sealed), Err(Unopened::Broken));
        }
    }

    #[test]
    fn no_value_is_sealed_twice_in_the_same_way() {
        let ring = ring(&[("a", 1)]);
        let seal = || ring.seal(Place::Secret(7), b"hush").unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn a_changed_value_does_not_open() {
        let ring = ring(&[("a", 1)]);
        let sealed = ring.seal(Place::Secret(7), b"hush").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(ring.open(Place::Secret(7), &changed).is_err(), "byte {at}");
            assert!(ring.open(Place::Secret(7), &sealed[..at]).is_err());
        }
        for open in [&b"hush"[..], b"\0hush", b""] {
            assert_eq!(ring.open(Place::Secret(7), open), Err(Unopened::Broken));
        }
    }

    #[test]
    fn another_key_opens_what_was_sealed_before_and_seals_it_anew() {
        let old = ring(&[("a", 1)]);
        let both = ring(&[("b", 2), ("a", 1)]);
        let new = ring(&[("b", 2)]);
        let sealed = old.seal(Place::Secret(7), b"hush").unwrap();
        assert_eq!(both.open(Place::Secret(7), &sealed).unwrap(), b"hush");
        let unknown = Unopened::UnknownKey("a".to_owned());
        assert_eq!(new.open(Place::Secret(7), &sealed), Err(unknown));
        let again = both.reseal(Place::Secret(7), &sealed).unwrap();
        assert!(again.starts_with(&new.prefix()) && !sealed.starts_with(&new.prefix()));
        assert_eq!(new.open(Place::Secret(7), &again).unwrap(), b"hush");
    }

    #[test]
    fn a_wrong_key_of_the_right_id_opens_nothing() {
        let sealed = ring(&[("a", 1)]).seal(Place::Secret(7), b"hush").unwrap();
        let wrong = ring(&[("a", 2)]).open(Place::Secret(7), &sealed);
        assert_eq!(wrong, Err(Unopened::Broken));
    }

    #[test]
    fn what_lay_open_is_sealed_for_the_first_time() {
        let ring = ring(&[("a", 1)]);
        let sealed = ring.reseal(Place::Secret(7), b"\0hush").unwrap();
        assert_eq!(ring.open(Place::Secret(7), &sealed).unwrap(), b"hush");
    }
}
