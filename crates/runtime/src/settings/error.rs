use std::fmt;
use std::io;
use std::path::PathBuf;

use hookline_core::master_key::InvalidMasterKeys;

/// The prefix of the variables that are settings.
pub(super) const PREFIX: &str = "HOOKLINE__";

/// Why there are no settings. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file of `--config` cannot be read.
    #[error("the settings file {} cannot be read", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// The file of `--config` is not TOML. The line itself may hold a password and is not shown.
    #[error("the settings file {file} is not TOML: line {line}: {message}")]
    NotToml {
        file: String,
        line: usize,
        message: String,
    },
    /// All settings that are unknown or not allowed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<InvalidSetting>),
    /// A setting that proves to be bad only when it is used.
    #[error("setting {name} cannot be used: {why}")]
    Unusable { name: &'static str, why: String },
    /// A setting without a default that this process needs.
    #[error(
        "setting {name} is not set: it must look like {example} (in the file of --config, or as {})",
        variable(name)
    )]
    NotSet {
        name: &'static str,
        example: &'static str,
    },
    /// A file that a setting names cannot be read.
    #[error("the file {} cannot be read", .path.display())]
    UnreadableFile { path: PathBuf, source: io::Error },
    /// A key file that other users can write.
    #[error(
        "the key file {path} can be written by other users (mode {mode:o}), so it may hold a key \
         that is not yours: look at it, and run `chmod 600 {path}`", path = .path.display()
    )]
    WritableFile { path: PathBuf, mode: u32 },
    /// Master keys that cannot be used. `name` is a setting, or a setting and the file that it names.
    #[error("setting {name} is not allowed: it {why}")]
    MasterKeys {
        name: String,
        why: InvalidMasterKeys,
    },
    /// Master keys that do not open what the database holds.
    #[error("setting secrets.keys does not fit")]
    NotTheKeys(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A setting that is unknown or has a value that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSetting {
    /// `section.key`.
    pub name: String,
    /// The file or the environment variable that it came from.
    pub origin: String,
    pub problem: SettingProblem,
}

/// The reason why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingProblem {
    /// The setting does not exist. The text names the existing ones.
    Unknown(String),
    /// The value is shown without its secrets.
    NotAllowed { value: String, allowed: String },
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, origin, .. } = self;
        match &self.problem {
            SettingProblem::Unknown(known) => {
                write!(f, "setting {name} (from {origin}) is unknown: {known}")
            }
            SettingProblem::NotAllowed { value, allowed } => write!(
                f,
                "setting {name} = {value} (from {origin}) is not allowed: {allowed}"
            ),
        }
    }
}

/// The environment variable of a setting.
pub(super) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('.', "__").to_ascii_uppercase())
}
