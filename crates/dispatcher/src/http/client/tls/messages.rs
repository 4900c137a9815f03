//! The message of a failed TLS handshake: one sentence for the owner of the receiver.

use hookline_core::timestamp::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, OtherError};

use super::verifier::Untrusted;

/// In characters. A certificate may hold thousands of names.
const MAX_MESSAGE: usize = 500;

/// The most names of a certificate in a message.
const MAX_NAMES: usize = 4;

const HTTP1_ONLY: &str = "the receiver does not offer HTTP/1.1 on this port, and Hookline sends HTTP/1.1 only: let the \
                          receiver accept HTTP/1.1 beside HTTP/2";

const NOTHING_IN_COMMON: &str = "the receiver and Hookline have no TLS version, cipher suite or kind of key in common: \
                                 let the receiver accept TLS 1.2 or 1.3, and use a key of RSA (2048 bits or more), \
                                 ECDSA P-256 or P-384, or Ed25519";

const NO_TLS: &str = "the receiver does not speak TLS on this port: change the port of the subscription's URL, or let \
                      the receiver serve https there";

const MISSING_INTERMEDIATE: &str = "the receiver sends its certificate without an intermediate certificate, and its issuer is not \
                     trusted: let the receiver send the whole chain (often a file named fullchain.pem), or ask \
                     Hookline's operator to trust the issuer (targets.extra_ca_file)";

const UNKNOWN_ISSUER: &str = "the issuer of the receiver's certificate is not trusted: use a certificate of a public \
                              CA, or ask Hookline's operator to trust the issuer (targets.extra_ca_file)";

const SELF_SIGNED: &str = "the receiver's certificate is self-signed: use a certificate of a CA, or ask Hookline's \
                           operator to trust the certificate (targets.extra_ca_file)";

const CA_AS_SERVER: &str = "the receiver uses the certificate of a CA (CA:TRUE) as its server certificate: use a \
                            server certificate (CA:FALSE)";

const ALGORITHM: &str = "the receiver's certificate, or one of its chain, is signed with an algorithm that is not \
                         supported: use RSA with SHA-256, SHA-384 or SHA-512, ECDSA P-256 with SHA-256, ECDSA P-384 \
                         with SHA-384, or Ed25519";

const PURPOSE: &str = "the receiver's certificate, or one of its chain, is not made for TLS servers: its extensions \
                       must allow server authentication (serverAuth)";

/// The message of a failed handshake.
pub(crate) fn failure(error: &Error) -> String {
    let why = match error {
        Error::InvalidCertificate(why) => certificate(why),
        Error::AlertReceived(alert) => received(*alert),
        Error::PeerIncompatible(_) => NOTHING_IN_COMMON.to_owned(),
        Error::InvalidMessage(_) => NO_TLS.to_owned(),
        Error::NoApplicationProtocol => HTTP1_ONLY.to_owned(),
        Error::NoCertificatesPresented => "the receiver sends no certificate".to_owned(),
        _ => "the receiver does not keep to the TLS protocol".to_owned(),
    };
    let message = format!("no TLS session: {why}");
    message.chars().take(MAX_MESSAGE).collect()
}

fn certificate(error: &CertificateError) -> String {
    use CertificateError as E;
    let fixed = match error {
        E::ExpiredContext { not_after, .. } => {
            let at = time(*not_after);
            return format!(
                "the receiver's certificate, or one of its chain, expired at {at}: renew it"
            );
        }
        E::NotValidYetContext { not_before, .. } => {
            let at = time(*not_before);
            return format!(
                "the receiver's certificate, or one of its chain, is not valid before {at}: use one that is valid now"
            );
        }
        E::NotValidForNameContext { presented, .. } => return wrong_name(presented),
        E::Other(other) => return other_fault(other).to_owned(),
        E::Expired => "the receiver's certificate, or one of its chain, has expired: renew it",
        E::NotValidYet => "the receiver's certificate, or one of its chain, is not valid yet",
        E::NotValidForName => return wrong_name(&[]),
        E::Revoked => "the receiver's certificate is revoked: replace it",
        E::UnknownIssuer => UNKNOWN_ISSUER,
        E::BadSignature => {
            "a signature of the receiver's certificate, or of its chain, does not verify: let the receiver send the \
             certificates that belong together, with RSA keys of 2048 bits or more"
        }
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => ALGORITHM,
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => PURPOSE,
        E::BadEncoding | E::UnhandledCriticalExtension => {
            "the receiver's certificate, or one of its chain, cannot be read, or has a critical extension that is not \
             supported: issue it anew"
        }
        _ => "the receiver's certificate cannot be verified",
    };
    fixed.to_owned()
}

fn other_fault(error: &OtherError) -> &'static str {
    let OtherError(error) = error;
    match error.downcast_ref::<Untrusted>() {
        Some(Untrusted::SelfSigned) => return SELF_SIGNED,
        Some(Untrusted::MissingIntermediate) => return MISSING_INTERMEDIATE,
        None => {}
    }
    match error.downcast_ref::<webpki::Error>() {
        Some(webpki::Error::CaUsedAsEndEntity) => CA_AS_SERVER,
        Some(webpki::Error::NameConstraintViolation) => {
            "the CA of the receiver's certificate may not issue certificates for this host name (name constraints)"
        }
        Some(webpki::Error::UnsupportedCertVersion) => {
            "the receiver's certificate, or one of its chain, is not of X.509 version 3: issue it anew"
        }
        Some(_) => "the receiver's certificate, or one of its chain, is not valid: issue it anew",
        // The platform's verifier does not report the error of a wrong purpose.
        None => PURPOSE,
    }
}

/// rustls writes `presented` as `DnsName("a.example")`.
fn wrong_name(presented: &[String]) -> String {
    let names: Vec<String> = presented
        .iter()
        .filter_map(|name| Some(name.split_once("DnsName(\"")?.1.trim_end_matches("\")")))
        .take(MAX_NAMES)
        .map(|name| {
            name.chars()
                .filter(char::is_ascii_graphic)
                .take(50)
                .collect()
        })
        .collect();
    let more = if presented.len() > names.len() {
        " and others"
    } else {
        ""
    };
    let shown = if names.is_empty() {
        String::new()
    } else {
        format!(", but for {}{more}", names.join(", "))
    };
    format!(
        "the receiver's certificate is not for the host of the subscription's URL{shown}: use a certificate with that \
         host as a subject alternative name"
    )
}

/// The message for an alert: the receiver ended the session, and gave a reason (RFC 8446, section 6.2).
fn received(alert: AlertDescription) -> String {
    use AlertDescription as A;
    match alert {
        A::NoApplicationProtocol => HTTP1_ONLY.to_owned(),
        A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity => {
            NOTHING_IN_COMMON.to_owned()
        }
        A::UnrecognisedName => {
            "the receiver has no certificate for the host of the subscription's URL (SNI)".to_owned()
        }
        A::CertificateRequired | A::NoCertificate | A::BadCertificate => {
            "the receiver asks for a client certificate, and Hookline has none: let it verify the signature instead"
                .to_owned()
        }
        other => format!("the receiver ended it with TLS alert {}", u8::from(other)),
    }
}

fn time(at: UnixTime) -> Timestamp {
    let micros = i64::try_from(at.as_secs())
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000);
    Timestamp::from_unix_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_certificate_are_shown_without_rust_text_and_within_bounds() {
        let message = wrong_name(&[
            "DnsName(\"a.example\")".into(),
            "IpAddress(10.0.0.1)".into(),
        ]);
        assert!(
            message.contains("but for a.example and others: use"),
            "{message}"
        );
        let many = vec![format!("DnsName(\"{}\u{202e}\")", "x".repeat(250)); 1000];
        let why = CertificateError::NotValidForNameContext {
            expected: "b.example".try_into().unwrap(),
            presented: many,
        };
        let message = failure(&why.into());
        assert!(
            message.len() <= MAX_MESSAGE && message.is_ascii(),
            "{message}"
        );
        assert!(
            message.ends_with("as a subject alternative name"),
            "{message}"
        );
    }

    #[test]
    fn an_alert_without_a_message_is_named_by_its_number() {
        let message = failure(&Error::AlertReceived(AlertDescription::InternalError));
        assert_eq!(
            message,
            "no TLS session: the receiver ended it with TLS alert 80"
        );
    }
}
