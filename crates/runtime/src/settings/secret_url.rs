use std::fmt;

use hookline_core::hosts::each_host;
use url::Url;

use super::error::SettingsError;
use super::server_url::{ServerKind, check};

/// A URL that may hold a password. `Display` and `Debug` hide it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Box<str>);

impl SecretUrl {
    /// An empty text means no URL.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// A broker URL that is no setting.
    ///
    /// # Errors
    /// The rule that the URL breaks, without any part of the URL.
    pub fn of_broker(text: &str) -> Result<Self, &'static str> {
        check(ServerKind::Broker, text)?;
        Ok(Self::new(text))
    }

    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn required(
        &self,
        name: &'static str,
        example: &'static str,
    ) -> Result<&Self, SettingsError> {
        match self.is_set() {
            true => Ok(self),
            false => Err(SettingsError::NotSet { name, example }),
        }
    }
}

/// Shows scheme, user, host, port and path. Part of a password with an unescaped `/`, `?`, `#` or `@` would be read as
/// one of these, so a URL that may have such a password is hidden whole.
impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_set() {
            return Ok(());
        }
        let urls: Option<Vec<Url>> = each_host(&self.0).iter().map(|one| readable(one)).collect();
        let Some([url, others @ ..]) = urls.as_deref() else {
            return f.write_str("***");
        };
        write!(f, "{}://", url.scheme())?;
        match (url.username(), url.password()) {
            ("", None) => {}
            (user, None) => write!(f, "{user}@")?,
            (user, Some(_)) => write!(f, "{user}:***@")?,
        }
        write_host(f, url)?;
        for other in others {
            f.write_str(",")?;
            write_host(f, other)?;
        }
        f.write_str(url.path())?;
        match url.query() {
            Some(_) => f.write_str("?***"),
            None => Ok(()),
        }
    }
}

fn write_host(f: &mut fmt::Formatter<'_>, url: &Url) -> fmt::Result {
    f.write_str(url.host_str().unwrap_or_default())?;
    match url.port() {
        Some(port) => write!(f, ":{port}"),
        None => Ok(()),
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

fn readable(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let behind_host = [url.path(), url.query().unwrap_or_default()];
    let is_plain = text.contains("://")
        && url.has_host()
        && url.fragment().is_none()
        && !behind_host.iter().any(|part| part.contains('@'));
    is_plain.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_everything_but_its_password_and_query() {
        for (text, shown) in [
            ("postgres://127.0.0.1/db", "postgres://127.0.0.1/db"),
            ("postgres://u@h:5432/db", "postgres://u@h:5432/db"),
            (
                "postgres://u:secret@h:5432/db",
                "postgres://u:***@h:5432/db",
            ),
            ("amqps://u:secret@h/%2f", "amqps://u:***@h/%2f"),
            ("amqp://u:se,cret@a:1,b/v", "amqp://u:***@a:1,b/v"),
            ("postgres://h/db?password=secret", "postgres://h/db?***"),
            ("https://:secret@h", "https://:***@h/"),
        ] {
            assert_eq!(SecretUrl::new(text).to_string(), shown);
            assert_eq!(
                format!("{:?}", SecretUrl::new(text)),
                format!("SecretUrl({shown})")
            );
        }
    }

    #[test]
    fn a_password_that_broke_its_url_is_not_shown_either() {
        for text in [
            "secret",
            "u:secret@h/db",
            "host=h password=secret",
            "postgres://u:12/secret@h/db",
            "postgres://u:12?secret@h/db",
            "postgres://u:12#secret@h/db",
            "postgres://u:sec/ret@h/db",
            "postgres://h/db?password=secret@more",
            "postgres://u:secret@/db",
            "amqp://u:1,2/secret@h/v",
            "amqp://u:secret@a:1,:2/v",
        ] {
            assert_eq!(SecretUrl::new(text).to_string(), "***", "{text}");
        }
    }
}
