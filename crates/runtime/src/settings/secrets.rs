use std::fmt;
use std::path::{Path, PathBuf};

use hookline_core::master_key::{InvalidMasterKeys, MasterKeys};
use serde::Deserialize;

use super::SettingsError;
use super::key_file::read_key_file;
use super::refused::variable;

/// `[secrets]`: what secrets and header values are sealed under in the database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSettings {
    /// The keys themselves; empty where they are in a file, or not set.
    pub keys: GivenKeys,
    /// A file that has them; empty where there is none.
    pub key_file: PathBuf,
    /// The id of the one that seals; empty for the first.
    pub primary: String,
}

/// Master keys as they were written; they never show themselves.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct GivenKeys(Box<str>);

impl fmt::Debug for GivenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenKeys(…)")
    }
}

impl SecretSettings {
    /// The master keys, for a service that cannot do without.
    ///
    /// # Errors
    /// [`SettingsError`] where there are none, or what is there names none.
    pub fn required(&self) -> Result<MasterKeys, SettingsError> {
        const NAME: &str = "secrets.keys";
        self.given()?.ok_or_else(|| SettingsError::NotSet {
            name: NAME,
            variable: variable(NAME),
            example: "ID:KEY as `hookline secrets new-key` prints it, or ID: and the output of \
                      `openssl rand -base64 32`",
        })
    }

    /// The master keys, if any were given.
    ///
    /// # Errors
    /// [`SettingsError`] where what is there names none.
    pub fn given(&self) -> Result<Option<MasterKeys>, SettingsError> {
        let in_file = !self.key_file.as_os_str().is_empty();
        match (self.keys.0.is_empty(), in_file) {
            (true, false) => Ok(None),
            (false, false) => self.parse("secrets.keys", &self.keys.0).map(Some),
            (false, true) => Err(refused("secrets.key_file", InvalidMasterKeys::Both)),
            (true, true) => self.of_file(&self.key_file).map(Some),
        }
    }

    /// The keys in a file, a key a line.
    ///
    /// # Errors
    /// [`SettingsError`] where it cannot be read, others can write it, or it names none.
    pub fn of_file(&self, path: &Path) -> Result<MasterKeys, SettingsError> {
        let text = read_key_file(path)?;
        self.parse(&format!("secrets.key_file = {path:?}"), &text)
    }

    fn parse(&self, name: &str, text: &str) -> Result<MasterKeys, SettingsError> {
        let primary = (!self.primary.is_empty()).then_some(self.primary.as_str());
        MasterKeys::parse(text, primary).map_err(|why| refused(name, why))
    }
}

fn refused(name: &str, why: InvalidMasterKeys) -> SettingsError {
    let name = name.to_owned();
    SettingsError::MasterKeys { name, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const B: &str = "b:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    fn settings(keys: &str, file: &Path, primary: &str) -> SecretSettings {
        SecretSettings {
            keys: GivenKeys(keys.into()),
            key_file: file.to_owned(),
            primary: primary.to_owned(),
        }
    }

    fn said(settings: &SecretSettings) -> String {
        settings.required().unwrap_err().to_string()
    }

    #[test]
    fn keys_come_from_the_setting_or_from_a_file() {
        let nowhere = Path::new("");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{A}\n{B}\n")).unwrap();
        for settings in [
            settings(&format!("{A},{B}"), nowhere, "b"),
            settings("", file.path(), "b"),
        ] {
            let keys = settings.required().unwrap();
            assert_eq!(keys.primary().id().as_str(), "b");
            assert_eq!(keys.iter().count(), 2);
        }
        assert!(settings("", nowhere, "").given().unwrap().is_none());
    }

    #[test]
    fn who_has_no_usable_key_is_told_how_to_make_one_and_no_key_is_shown() {
        let nowhere = Path::new("");
        let none = said(&settings("", nowhere, ""));
        assert!(none.contains("secrets.keys is not set"), "{none}");
        assert!(none.contains("HOOKLINE__SECRETS__KEYS"), "{none}");
        assert!(none.contains("openssl rand -base64 32"), "{none}");
        let short = settings("a:AAECAwQFBgc=", nowhere, "");
        assert_eq!(
            said(&short),
            "setting secrets.keys is not allowed: it must have keys of 32 bytes in base64"
        );
        assert!(!format!("{short:?}").contains("AAEC"));
        let both = said(&settings(A, Path::new("/f"), ""));
        assert!(both.contains("secrets.key_file is not allowed"), "{both}");
        let other = said(&settings(A, nowhere, "b"));
        assert!(other.contains("secrets.primary"), "{other}");
    }
}
