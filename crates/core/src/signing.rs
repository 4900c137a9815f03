//! Two signatures of each request: `X-Webhook-Signature` over the body, for receivers of the older API, and
//! `webhook-signature` of Standard Webhooks, which also covers id and time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::secret::Secret;
use crate::timestamp::Timestamp;

/// The secrets of a subscription: the current one and, for a while after a rotation, the previous one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningSecrets {
    pub current: Secret,
    pub previous: Option<PreviousSecret>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousSecret {
    pub secret: Secret,
    pub valid_until: Timestamp,
}

/// A secret with its HMAC key schedule, which is computed once and not for each request.
#[derive(Debug, Clone)]
pub struct SigningKey {
    plain: hmac::Key,
    standard: hmac::Key,
}

/// The signature headers of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// `X-Webhook-Signature`: lowercase hex of HMAC-SHA256 over the body (RFC 2104).
    pub plain: String,
    /// `X-Webhook-Signature-Previous`: the same with the secret before, while that is valid.
    pub plain_previous: Option<String>,
    /// `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`; while two
    /// secrets are valid both, the newest first, with a space between.
    pub standard: String,
}

#[derive(Debug, Clone, Copy)]
pub struct SignatureInput<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    pub sent: Timestamp,
    pub body: &'a [u8],
}

impl SigningSecrets {
    /// Signs with the current secret, and with the previous one if that is still valid when the request is sent.
    pub fn sign(&self, message: SignatureInput<'_>) -> Signatures {
        let timestamp = message.sent.unix_seconds();
        let sign =
            |secret: &Secret| SigningKey::from(secret).sign(message.id, timestamp, message.body);
        let mut signatures = sign(&self.current);
        let valid = |previous: &&PreviousSecret| message.sent < previous.valid_until;
        if let Some(previous) = self.previous.as_ref().filter(valid) {
            let before = sign(&previous.secret);
            signatures.plain_previous = Some(before.plain);
            signatures.standard = format!("{} {}", signatures.standard, before.standard);
        }
        signatures
    }
}

impl From<&Secret> for SigningKey {
    fn from(secret: &Secret) -> Self {
        Self {
            plain: secret.plain_key(),
            standard: secret.standard_key(),
        }
    }
}

impl SigningKey {
    /// Signs `body` as message `webhook_id`, sent at `timestamp` (Unix seconds).
    pub fn sign(&self, webhook_id: &str, timestamp: i64, body: &[u8]) -> Signatures {
        let mut standard = hmac::Context::with_key(&self.standard);
        standard.update(webhook_id.as_bytes());
        standard.update(format!(".{timestamp}.").as_bytes());
        standard.update(body);
        Signatures {
            plain: hex(hmac::sign(&self.plain, body).as_ref()),
            plain_previous: None,
            standard: format!("v1,{}", STANDARD.encode(standard.sign())),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(valid_until: i64) -> SigningSecrets {
        SigningSecrets {
            current: Secret::parse("new").unwrap(),
            previous: Some(PreviousSecret {
                secret: Secret::parse("old").unwrap(),
                valid_until: Timestamp::from_unix_micros(valid_until),
            }),
        }
    }

    #[test]
    fn both_secrets_sign_until_the_old_one_ends() {
        let message = SignatureInput {
            id: "msg_1",
            sent: Timestamp::from_unix_micros(5_000_000),
            body: b"{}",
        };
        let by = |secret: &str| {
            SigningKey::from(&Secret::parse(secret).unwrap()).sign("msg_1", 5, b"{}")
        };
        let (new, old) = (by("new"), by("old"));
        let both = rotated(5_000_001).sign(message);
        assert_eq!(both.plain, new.plain);
        assert_eq!(both.plain_previous, Some(old.plain));
        assert_eq!(both.standard, format!("{} {}", new.standard, old.standard));
        assert_eq!(rotated(5_000_000).sign(message), new);
    }

    #[test]
    fn signatures_are_those_of_the_vectors() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../tests/signatures.json")).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 4);
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let key = SigningKey::from(&Secret::parse(text("secret")).unwrap());
            let timestamp = vector["webhook_timestamp"].as_i64().unwrap();
            let signatures = key.sign(text("webhook_id"), timestamp, text("body").as_bytes());
            assert_eq!(
                signatures.plain,
                text("x_webhook_signature"),
                "{}",
                text("name")
            );
            assert_eq!(
                signatures.standard,
                text("webhook_signature"),
                "{}",
                text("name")
            );
        }
    }
}
