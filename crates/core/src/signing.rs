//! Two signatures over the same bytes: `X-Webhook-Signature`, which receivers of the older API
//! verify, and `webhook-signature` of Standard Webhooks, which also covers id and time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::secret::Secret;

/// A secret made ready to sign: the key schedule of HMAC is worked out once, not once a request.
#[derive(Debug, Clone)]
pub struct SigningKey {
    plain: hmac::Key,
    standard: hmac::Key,
}

/// What one request bears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// `X-Webhook-Signature`: lowercase hex of HMAC-SHA256 over the body (RFC 2104).
    pub plain: String,
    /// `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.
    pub standard: String,
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
