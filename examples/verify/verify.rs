use http::HeaderMap;
use ring::hmac;
use standardwebhooks::Webhook;

/// Whether Hookline sent this request in the last five minutes. `body` is the bytes as they came.
pub fn verify(secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let webhook = match secret.starts_with("whsec_") {
        true => Webhook::new(secret),
        false => Webhook::from_bytes(secret.into()),
    };
    webhook.is_ok_and(|webhook| webhook.verify(body, headers).is_ok())
}

/// The same by the older headers, which do not cover the time: a copy is as good as the original.
/// During a rotation the new secret signs the first header and the old one the second.
pub fn verify_body(secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signs = |name| {
        let theirs = headers.get(name).and_then(|hex| bytes(hex.to_str().ok()?));
        theirs.is_some_and(|theirs| hmac::verify(&key, body, &theirs).is_ok())
    };
    signs("x-webhook-signature") || signs("x-webhook-signature-previous")
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    (0..hex.len()).step_by(2).map(byte).collect()
}
