use std::fmt;
use std::path::{Path, PathBuf};

use hookline_core::master_key::{InvalidMasterKeys, MasterKeys};
use serde::Deserialize;

use super::error::SettingsError;
use super::key_file::read_key_file;
use super::validators;

/// The master keys that encrypt secrets and header values in the database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSettings {
    /// Empty where they are in a file, or not set.
    pub keys: GivenKeys,
    #[serde(deserialize_with = "validators::path")]
    pub key_file: Option<PathBuf>,
    /// The id of the key that encrypts. Empty means the first key.
    pub primary: String,
}

/// Master keys as the setting has them. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct GivenKeys(Box<str>);

impl fmt::Debug for GivenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenKeys(…)")
    }
}

impl SecretSettings {
    /// # Errors
    /// [`SettingsError`] where no keys are set, or bad ones.
    pub fn required(&self) -> Result<MasterKeys, SettingsError> {
        const NAME: &str = "secrets.keys";
        self.given()?.ok_or_else(|| SettingsError::NotSet {
            name: NAME,
            example: "ID:KEY as `hookline secrets new-key` prints it, or ID: and the output of \
                      `openssl rand -base64 32`",
        })
    }

    /// # Errors
    /// [`SettingsError`] where bad keys are set.
    pub fn given(&self) -> Result<Option<MasterKeys>, SettingsError> {
        match (&*self.keys.0, &self.key_file) {
            ("", None) => Ok(None),
            (keys, None) => self.parse("secrets.keys", keys).map(Some),
            ("", Some(file)) => self.of_file(file).map(Some),
            (_, Some(_)) => Err(invalid("secrets.key_file", InvalidMasterKeys::Both)),
        }
    }

    /// Reads a file with one key a line.
    ///
    /// # Errors
    /// [`SettingsError`] for a file that cannot be read, that others can write, or that has bad keys.
    pub fn of_file(&self, path: &Path) -> Result<MasterKeys, SettingsError> {
        let text = read_key_file(path)?;
        self.parse(&format!("secrets.key_file = {path:?}"), &text)
    }

    fn parse(&self, name: &str, text: &str) -> Result<MasterKeys, SettingsError> {
        let primary = (!self.primary.is_empty()).then_some(self.primary.as_str());
        MasterKeys::parse(text, primary).map_err(|why| invalid(name, why))
    }
}

fn invalid(name: &str, why: InvalidMasterKeys) -> SettingsError {
    let name = name.to_owned();
    SettingsError::MasterKeys { name, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const B: &str = "b:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    fn settings(keys: &str, file: Option<&Path>, primary: &str) -> SecretSettings {
        SecretSettings {
            keys: GivenKeys(keys.into()),
            key_file: file.map(Path::to_owned),
            primary: primary.to_owned(),
        }
    }

    fn error_of(settings: &SecretSettings) -> String {
        settings.required().unwrap_err().to_string()
    }

    #[test]
    fn keys_come_from_the_setting_or_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{A}\n{B}\n")).unwrap();
        for settings in [
            settings(&format!("{A},{B}"), None, "b"),
            settings("", Some(file.path()), "b"),
        ] {
            let keys = settings.required().unwrap();
            assert_eq!(keys.primary().id().as_str(), "b");
            assert_eq!(keys.iter().count(), 2);
        }
        assert!(settings("", None, "").given().unwrap().is_none());
    }

    #[test]
    fn an_error_without_a_usable_key_says_how_to_make_one_and_shows_no_key() {
        let none = error_of(&settings("", None, ""));
        assert!(none.contains("secrets.keys is not set"), "{none}");
        assert!(none.contains("HOOKLINE__SECRETS__KEYS"), "{none}");
        assert!(none.contains("openssl rand -base64 32"), "{none}");
        let short = settings("a:AAECAwQFBgc=", None, "");
        assert_eq!(
            error_of(&short),
            "setting secrets.keys is not allowed: it must have keys of 32 bytes in base64"
        );
        assert!(!format!("{short:?}").contains("AAEC"));
        let both = error_of(&settings(A, Some(Path::new("/f")), ""));
        assert!(both.contains("secrets.key_file is not allowed"), "{both}");
        let other = error_of(&settings(A, None, "b"));
        assert!(other.contains("secrets.primary"), "{other}");
    }
}
