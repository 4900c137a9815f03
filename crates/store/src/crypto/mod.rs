//! Encryption of secrets and header values under the master keys.

pub(crate) mod credentials;
pub(crate) mod encryption;
