//! A subscription's signing secret. Neither Debug nor an API answer shows it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// The longest secret, in characters.
pub const MAX_SECRET: usize = 255;

const STANDARD_WEBHOOKS_PREFIX: &str = "whsec_";

#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// It has 0 or more than [`MAX_SECRET`] characters.
    #[error("must have 1 to {MAX_SECRET} characters")]
    Length,
    /// It begins with `whsec_`, and the rest is not as Standard Webhooks requires.
    #[error("must have base64 of at least one byte after whsec_")]
    Base64,
    /// It begins with `v1,whsec_`, as some services show it: libraries of Standard Webhooks would find another key.
    #[error("must begin with whsec_, without the v1, in front of it")]
    Version,
}

impl Secret {
    /// # Errors
    /// [`InvalidSecret`] for a wrong length, or for bad base64 after `whsec_`.
    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidSecret> {
        let text = text.into();
        if !(1..=MAX_SECRET).contains(&text.chars().count()) {
            return Err(InvalidSecret::Length);
        }
        if text.starts_with("v1,whsec_") {
            return Err(InvalidSecret::Version);
        }
        match decoded(&text) {
            Some(Err(_)) => Err(InvalidSecret::Base64),
            Some(Ok(key)) if key.is_empty() => Err(InvalidSecret::Base64),
            _ => Ok(Self(text)),
        }
    }

    /// A generated secret, from 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        let text = format!("{STANDARD_WEBHOOKS_PREFIX}{}", STANDARD.encode(bytes));
        Self(text.into())
    }

    /// The text, for the store and for the answer of a request that generated it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The key of `X-Webhook-Signature`: the secret's bytes as given.
    pub fn plain_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes())
    }

    /// The key of `webhook-signature` (Standard Webhooks): of `whsec_<base64>` the decoded bytes,
    /// of any other secret its own.
    pub fn standard_key(&self) -> hmac::Key {
        match decoded(&self.0) {
            Some(Ok(key)) => hmac::Key::new(hmac::HMAC_SHA256, &key),
            _ => self.plain_key(),
        }
    }
}

fn decoded(text: &str) -> Option<Result<Vec<u8>, base64::DecodeError>> {
    Some(STANDARD.decode(text.strip_prefix(STANDARD_WEBHOOKS_PREFIX)?))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_1_to_255_characters() {
        assert_eq!(Secret::parse(""), Err(InvalidSecret::Length));
        assert!(Secret::parse("s").is_ok());
        assert!(Secret::parse("é".repeat(255)).is_ok());
        assert_eq!(Secret::parse("s".repeat(256)), Err(InvalidSecret::Length));
    }

    #[test]
    fn after_whsec_comes_base64() {
        assert!(Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok());
        let with_version = Secret::parse("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(with_version.err(), Some(InvalidSecret::Version));
        for bad in ["whsec_", "whsec_?", "whsec_abc"] {
            assert_eq!(Secret::parse(bad), Err(InvalidSecret::Base64), "{bad}");
        }
    }

    #[test]
    fn a_generated_secret_is_a_standard_webhooks_secret() {
        let secret = Secret::from_random([7; 32]);
        assert_eq!(Secret::parse(secret.expose()), Ok(secret.clone()));
        assert_eq!(decoded(secret.expose()), Some(Ok(vec![7; 32])));
    }

    #[test]
    fn debug_does_not_show_a_secret() {
        assert_eq!(format!("{:?}", Secret::parse("hush").unwrap()), "Secret(…)");
    }
}
