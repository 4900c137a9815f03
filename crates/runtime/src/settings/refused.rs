use std::fmt;
use std::io;
use std::path::PathBuf;

use figment::error::{Actual, Kind};
use figment::value::Value;
use hookline_core::master_key::InvalidMasterKeys;

use super::SecretUrl;

/// What the variables of settings begin with.
pub(super) const PREFIX: &str = "HOOKLINE__";

/// Why there are no settings; one line each.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file of `--config` cannot be read.
    #[error("the settings file {} cannot be read", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file of `--config` is not TOML. The line itself may hold a password and is not shown.
    #[error("the settings file {file} is not TOML: line {line}: {message}")]
    NotToml {
        /// Which file.
        file: String,
        /// Where in it.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// Settings that are unknown or not allowed: every one of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Refused>),
    /// A setting that cannot be told bad before it is put to use.
    #[error("setting {name} cannot be used: {why}")]
    Unusable {
        /// Which setting.
        name: &'static str,
        /// Why.
        why: String,
    },
    /// A setting without a default that this process needs.
    #[error(
        "setting {name} is not set: it must look like {example} (in the file of --config, or as {variable})"
    )]
    NotSet {
        /// Which setting.
        name: &'static str,
        /// The environment variable that sets it.
        variable: String,
        /// What it looks like.
        example: &'static str,
    },
    /// A file that a setting names cannot be read.
    #[error("the file {} cannot be read", .path.display())]
    UnreadableFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file with a key that other users can write.
    #[error(
        "the key file {path} can be written by other users (mode {mode:o}), so it may hold a key \
         that is not yours: look at it, and run `chmod 600 {path}`", path = .path.display()
    )]
    WritableFile {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Master keys that cannot be used, in whatever setting or file.
    #[error("setting {name} is not allowed: it {why}")]
    MasterKeys {
        /// Which setting, or the file that it names.
        name: String,
        /// What it must be.
        why: InvalidMasterKeys,
    },
    /// Master keys that are not the database's.
    #[error("setting secrets.keys does not fit")]
    NotTheKeys(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A setting that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its name: `section.key`.
    pub name: String,
    /// The file or the environment variable that it came from.
    pub origin: String,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// There is no such setting; and what there is.
    Unknown(String),
    /// Its value.
    NotAllowed {
        /// The value, without its secrets.
        value: String,
        /// What would be allowed.
        allowed: String,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, origin, why } = self;
        match why {
            Why::Unknown(known) => write!(f, "setting {name} (from {origin}) is unknown: {known}"),
            Why::NotAllowed { value, allowed } => write!(
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

/// A value as an error may show it.
pub(super) fn shown(name: &str, value: &Value) -> String {
    match (has_secret(name), value) {
        _ if name == "secrets.keys" => "***".to_owned(),
        (true, Value::String(_, text)) => {
            format!("{:?}", SecretUrl::new(text.as_str()).to_string())
        }
        (true, _) => "***".to_owned(),
        (false, value) => plain(value),
    }
}

fn has_secret(name: &str) -> bool {
    name.ends_with(".url") || name.ends_with("_endpoint")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, character) => format!("{:?}", character.to_string()),
        Value::Bool(_, truth) => truth.to_string(),
        Value::Num(_, number) => match number.to_actual() {
            Actual::Unsigned(number) => number.to_string(),
            Actual::Signed(number) => number.to_string(),
            Actual::Float(number) => format!("{number:?}"),
            _ => "…".to_owned(),
        },
        Value::Empty(..) => "nothing".to_owned(),
        Value::Array(_, values) => {
            let values = values.iter().map(plain).collect::<Vec<_>>();
            format!("[{}]", values.join(", "))
        }
        Value::Dict(..) => "{…}".to_owned(),
    }
}

/// Says what a value must be, from what serde expected.
pub(super) fn allowed(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(_, expected) if expected == "a boolean" => {
            "it must be true or false".to_owned()
        }
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => {
            format!("it must be {expected}")
        }
        Kind::Message(message) if message.starts_with("must ") => format!("it {message}"),
        other => other.to_string(),
    }
}
