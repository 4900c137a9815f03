//! Master keys, which encrypt (seal) secrets and header values in the database.
//!
//! There may be several, each with an id, so that keys can be rotated while services run: the primary key seals, and
//! all of them open. Neither Debug nor an error shows a key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The longest id of a master key, in characters.
pub const MAX_ID: usize = 32;

/// AES-256.
pub const KEY_BYTES: usize = 32;

/// The name of a key. Every value that is sealed under the key has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MasterKeyId(Box<str>);

/// A key and its id.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    id: MasterKeyId,
    bytes: [u8; KEY_BYTES],
}

/// One or more keys with different ids.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKeys {
    primary: MasterKey,
    others: Vec<MasterKey>,
}

/// An error never repeats the text, which may hold keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMasterKeys {
    #[error("must have at least one key")]
    None,
    /// An entry without a colon.
    #[error("must be ID:KEY, several with a comma between")]
    NoColon,
    #[error("must have ids of 1 to {MAX_ID} letters, digits, - and _")]
    Id,
    /// Not base64, or of another length.
    #[error("must have keys of {KEY_BYTES} bytes in base64")]
    Key,
    #[error("must not have an id twice")]
    Duplicate,
    #[error("must not be set together with secrets.keys")]
    Both,
    /// The primary id is not among them.
    #[error("must have a key of the id that secrets.primary names")]
    NoPrimary,
}

impl MasterKeyId {
    pub fn parse(text: &str) -> Result<Self, InvalidMasterKeys> {
        let fits = (1..=MAX_ID).contains(&text.len());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        match fits && text.bytes().all(plain) {
            true => Ok(Self(text.into())),
            false => Err(InvalidMasterKeys::Id),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MasterKey {
    /// A key of these bytes.
    pub fn new(id: MasterKeyId, bytes: [u8; KEY_BYTES]) -> Self {
        Self { id, bytes }
    }

    pub fn id(&self) -> &MasterKeyId {
        &self.id
    }

    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// `ID:KEY` as [`MasterKeys::parse`] reads it, for the command that generates a key.
    pub fn expose_text(&self) -> String {
        format!("{}:{}", self.id.0, STANDARD.encode(self.bytes))
    }

    fn parse(text: &str) -> Result<Self, InvalidMasterKeys> {
        let (id, key) = text.split_once(':').ok_or(InvalidMasterKeys::NoColon)?;
        let bytes = STANDARD
            .decode(key.trim())
            .map_err(|_| InvalidMasterKeys::Key)?;
        Ok(Self {
            id: MasterKeyId::parse(id.trim())?,
            bytes: bytes.try_into().map_err(|_| InvalidMasterKeys::Key)?,
        })
    }
}

impl MasterKeys {
    /// Reads `ID:KEY` entries, separated by commas or line ends. `primary` is the id of the primary key; the default is
    /// the first.
    pub fn parse(text: &str, primary: Option<&str>) -> Result<Self, InvalidMasterKeys> {
        let mut keys: Vec<MasterKey> = Vec::new();
        for entry in text.split([',', '\n']).map(str::trim) {
            if entry.is_empty() {
                continue;
            }
            let key = MasterKey::parse(entry)?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(InvalidMasterKeys::Duplicate);
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(InvalidMasterKeys::None);
        }
        let at = match primary {
            None => 0,
            Some(id) => keys
                .iter()
                .position(|key| key.id.as_str() == id)
                .ok_or(InvalidMasterKeys::NoPrimary)?,
        };
        Ok(Self {
            primary: keys.remove(at),
            others: keys,
        })
    }

    /// The key that seals.
    pub fn primary(&self) -> &MasterKey {
        &self.primary
    }

    /// The primary key first.
    pub fn iter(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.primary).chain(&self.others)
    }
}

impl From<MasterKey> for MasterKeys {
    fn from(primary: MasterKey) -> Self {
        let others = Vec::new();
        Self { primary, others }
    }
}

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({}: …)", self.id)
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const B: &str = "b:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    fn ids(keys: &MasterKeys) -> Vec<&str> {
        keys.iter().map(|key| key.id().as_str()).collect()
    }

    #[test]
    fn the_first_key_seals_unless_another_is_named() {
        let text = format!("{A}, {B}");
        assert_eq!(ids(&MasterKeys::parse(&text, None).unwrap()), ["a", "b"]);
        let named = MasterKeys::parse(&text, Some("b")).unwrap();
        assert_eq!(ids(&named), ["b", "a"]);
        assert_eq!(named.primary().expose()[0], 0x20);
    }

    #[test]
    fn a_file_has_a_key_a_line() {
        let keys = MasterKeys::parse(&format!("{A}\n{B}\n"), None).unwrap();
        assert_eq!(ids(&keys), ["a", "b"]);
        assert_eq!(keys.primary().expose_text(), A);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let why = |text: &str| MasterKeys::parse(text, None).unwrap_err();
        assert_eq!(why(""), InvalidMasterKeys::None);
        assert_eq!(why("AAEC"), InvalidMasterKeys::NoColon);
        assert_eq!(why("a:AAEC"), InvalidMasterKeys::Key);
        assert_eq!(why("a:???"), InvalidMasterKeys::Key);
        assert_eq!(why(&A.replace("a:", ":")), InvalidMasterKeys::Id);
        assert_eq!(why(&A.replace("a:", "a b:")), InvalidMasterKeys::Id);
        assert_eq!(why(&format!("{A},{A}")), InvalidMasterKeys::Duplicate);
        assert_eq!(
            MasterKeys::parse(A, Some("b")),
            Err(InvalidMasterKeys::NoPrimary)
        );
    }

    #[test]
    fn keys_do_not_show_themselves() {
        let keys = MasterKeys::parse(&format!("{A},{B}"), None).unwrap();
        assert_eq!(format!("{keys:?}"), "[MasterKey(a: …), MasterKey(b: …)]");
    }
}
