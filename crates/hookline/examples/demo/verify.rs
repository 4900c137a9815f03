//! Signature verification over the raw body, as a receiver does it. The library of Standard Webhooks verifies the first
//! signature, and own code the other. Neither uses the code that signs.

use reqwest::header::HeaderMap;
use ring::hmac;
use standardwebhooks::Webhook;

use crate::subscriptions::{Subscription, TEAM};

/// Verifies the requests of one subscription.
pub(crate) struct Verifier {
    standard: Result<Webhook, String>,
    plain: hmac::Key,
    wants_team: bool,
}

impl Verifier {
    pub(crate) fn of(subscription: &Subscription) -> Self {
        let secret = &subscription.secret;
        let standard = match secret.starts_with("whsec_") {
            true => Webhook::new(secret),
            false => Webhook::from_bytes(secret.as_bytes().to_vec()),
        };
        Self {
            standard: standard.map_err(|why| why.to_string()),
            plain: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
            wants_team: subscription.has_team_header,
        }
    }

    pub(crate) fn check(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let standard = self.standard.as_ref().map_err(String::clone)?;
        standard
            .verify(body, headers)
            .map_err(|why| format!("webhook-signature: {why}"))?;

        let plain = header(headers, "x-webhook-signature")?;
        let tag = from_hex(plain).ok_or("X-Webhook-Signature is not lowercase hex")?;
        hmac::verify(&self.plain, body, &tag)
            .map_err(|_| "X-Webhook-Signature does not match the body")?;

        if header(headers, "content-type")? != "application/json" {
            return Err("Content-Type is not application/json".to_owned());
        }
        if self.wants_team && header(headers, TEAM.0)? != TEAM.1 {
            return Err(format!("{} is not {}", TEAM.0, TEAM.1));
        }
        Ok(())
    }
}

/// A required header.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, String> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| format!("{name} is missing"))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}
