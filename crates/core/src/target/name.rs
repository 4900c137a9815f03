//! Names as hosts: those to which no request can be made, and those that are never public.

use super::{BlockedTarget, Networks};

/// Names that no public resolver answers for: each name itself and all below it.
const NEVER_PUBLIC: [&str; 9] = [
    // RFC 6761
    "localhost",
    "test",
    "example",
    "invalid",
    // RFC 6762
    "local",
    // RFC 7686
    "onion",
    // RFC 8375
    "home.arpa",
    // RFC 9476
    "alt",
    // ICANN, 29 July 2024
    "internal",
];

pub(super) const NEVER: &str = "not a single word, nor localhost or one below it, nor one that ends in .test, .example, \
     .invalid, .local, .onion, .alt, .home.arpa or .internal";

/// The names among these that no internal resolver knows either.
const NOWHERE: [&str; 3] = ["example", "invalid", "onion"];

/// Checks a name as the URL standard writes it: in lower case, and in ASCII.
pub(super) fn check(name: &str, networks: &Networks) -> Result<(), BlockedTarget> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(BlockedTarget::Host);
    }
    let inside = match networks {
        Networks::Any => return Ok(()),
        Networks::PublicAnd(networks) => !networks.is_empty(),
    };
    let is_below = |suffix: &str| {
        let rest = name.strip_suffix(suffix);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let is_special = match inside {
        true => NOWHERE.iter().any(|name| is_below(name)),
        false => !name.contains('.') || NEVER_PUBLIC.iter().any(|name| is_below(name)),
    };
    match is_special {
        true => Err(BlockedTarget::Name),
        false => Ok(()),
    }
}

/// Letters, digits and hyphens in between (RFC 952, RFC 1123); and underscores, which DNS and TLS take.
fn is_label(label: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&label.len())
        && label.bytes().all(is_inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}
