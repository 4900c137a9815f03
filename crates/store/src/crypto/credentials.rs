//! Secrets and custom headers of a subscription: encrypted as they are stored, and decrypted for one request.

use hookline_core::headers::CustomHeaders;
use hookline_core::secret::Secret;
use hookline_core::signing::{PreviousSecret, SigningSecrets};
use hookline_core::timestamp::Timestamp;

use crate::crypto::encryption::{AssociatedData, DecryptError, Keyring};

/// Secrets and headers as they are stored; [`Store::open`](crate::Store::open) opens them.
#[derive(Debug, Clone, Default)]
pub struct SealedCredentials {
    pub(crate) subscription: i64,
    pub(crate) secret: Option<Vec<u8>>,
    pub(crate) previous: Option<(Vec<u8>, i64)>,
    pub(crate) headers: Vec<u8>,
}

/// Secrets and headers, to sign and send one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub secrets: Option<SigningSecrets>,
    pub headers: CustomHeaders,
}

impl SealedCredentials {
    pub(crate) fn open(&self, keyring: &Keyring) -> Result<Credentials, DecryptError> {
        let secret = |sealed: &[u8]| {
            let bytes = keyring.open(AssociatedData::Secret(self.subscription), sealed)?;
            let text = String::from_utf8(bytes).map_err(|_| DecryptError::Broken)?;
            Secret::parse(text).map_err(|_| DecryptError::Broken)
        };
        let previous = |(sealed, until): &(Vec<u8>, i64)| {
            Ok(PreviousSecret {
                secret: secret(sealed)?,
                valid_until: Timestamp::from_unix_micros(*until),
            })
        };
        let secrets = match &self.secret {
            None => None,
            Some(sealed) => Some(SigningSecrets {
                current: secret(sealed)?,
                previous: self.previous.as_ref().map(previous).transpose()?,
            }),
        };
        let headers = match self.headers.as_slice() {
            [] => CustomHeaders::default(),
            sealed => {
                let bytes = keyring.open(AssociatedData::Headers(self.subscription), sealed)?;
                let pairs = serde_json::from_slice(&bytes).map_err(|_| DecryptError::Broken)?;
                CustomHeaders::from_store(pairs)
            }
        };
        Ok(Credentials { secrets, headers })
    }
}

/// The plaintext of headers; empty without headers.
pub(crate) fn headers_bytes(headers: &CustomHeaders) -> Vec<u8> {
    let pairs: Vec<(&str, &str)> = headers.iter().collect();
    match pairs.is_empty() {
        true => Vec::new(),
        false => serde_json::to_vec(&pairs).unwrap_or_default(),
    }
}

/// The names of headers, which lists show, are not encrypted.
pub(crate) fn header_names_text(headers: &CustomHeaders) -> String {
    let names: Vec<&str> = headers.names().collect();
    serde_json::to_string(&names).unwrap_or_else(|_| "[]".to_owned())
}
