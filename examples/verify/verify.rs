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

/// The same by the older header, which says nothing about when: a copy is as good as the original.
pub fn verify_body(secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let theirs = headers.get("x-webhook-signature");
    let theirs: Option<Vec<u8>> = theirs.and_then(|hex| hex.to_str().ok()).and_then(|hex| {
        let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        (0..hex.len()).step_by(2).map(byte).collect()
    });
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    theirs.is_some_and(|theirs| hmac::verify(&key, body, &theirs).is_ok())
}
