//! Three layers: an environment variable overrides the file of `--config`, which overrides the default file.

use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use config::{Config, ConfigError, Value, ValueKind};

use super::error::{InvalidSetting, SettingProblem, SettingsError};
use super::schema::{DEFAULT_FILE, Schema, SettingValues, parse};
use super::secret_url::SecretUrl;
use super::sections::Settings;
use super::validators::LogFormat;

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

impl Settings {
    /// The commented default file.
    pub fn default_file() -> &'static str {
        DEFAULT_FILE
    }

    /// Reads the settings of this process.
    ///
    /// # Errors
    /// [`SettingsError`] for a file that cannot be read, and for every bad setting at once.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let loaded = Self::load_with(file, std::env::vars_os());
        let format = match &loaded {
            Ok(settings) => settings.log.format,
            Err(_) => wanted_format(file, std::env::var("HOOKLINE__LOG__FORMAT").ok().as_deref()),
        };
        // A process reads its settings once; a second time changes nothing.
        let _ = FORMAT.set(format);
        loaded
    }

    /// The format of the line that says why the process ends. It is the log's, also where settings are bad.
    pub(crate) fn format_of_process() -> LogFormat {
        FORMAT.get().copied().unwrap_or(LogFormat::Text)
    }

    /// Reads a file and the given variables.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_with(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let Some(path) = file else {
            return Self::read(None, environment);
        };
        let text = std::fs::read_to_string(path).map_err(|source| {
            let path = path.to_owned();
            SettingsError::Unreadable { path, source }
        })?;
        Self::read(Some((&path.display().to_string(), &text)), environment)
    }

    /// Reads a file that is given by its name and its text, and the given variables.
    ///
    /// # Errors
    /// [`SettingsError`] for every bad setting at once.
    pub fn read(
        file: Option<(&str, &str)>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let schema = Schema::compiled_in()?;
        let mut invalid = Vec::new();
        let mut given = match file {
            Some((name, text)) => schema.read_file(name, text, &mut invalid)?,
            None => SettingValues::new(),
        };
        given.extend(schema.read_environment(environment, &mut invalid));
        extract(&schema, given, invalid)
    }
}

/// The log's format where other settings are bad.
fn wanted_format(file: Option<&Path>, variable: Option<&str>) -> LogFormat {
    let in_file = || {
        let text = std::fs::read_to_string(file?).ok()?;
        let log = parse("", &text).ok()?.remove("log")?;
        log.into_table().ok()?.remove("format")?.into_string().ok()
    };
    match variable.map(str::to_owned).or_else(in_file).as_deref() {
        Some("json") => LogFormat::Json,
        _ => LogFormat::Text,
    }
}

/// Deserialization stops at the first bad value. That value is taken out, its default takes its place, and it is
/// tried again, until all bad values are found.
fn extract(
    schema: &Schema,
    mut given: SettingValues,
    mut invalid: Vec<InvalidSetting>,
) -> Result<Settings, SettingsError> {
    let settings = loop {
        let merged = merge(schema, &given);
        let (name, allowed) = match merged.and_then(Config::try_deserialize) {
            Ok(settings) => break settings,
            Err(error) => name_and_allowed(error),
        };
        let bad = given.remove(&name);
        let is_given = bad.is_some();
        invalid.push(not_allowed(schema, &name, bad, allowed));
        if !is_given {
            return Err(SettingsError::Invalid(invalid));
        }
    };
    invalid.extend(contradiction(&settings, schema, &given));
    invalid.sort_by(|a, b| a.name.cmp(&b.name));
    match invalid.is_empty() {
        true => Ok(settings),
        false => Err(SettingsError::Invalid(invalid)),
    }
}

fn merge(schema: &Schema, given: &SettingValues) -> Result<Config, ConfigError> {
    let mut builder = Config::builder();
    for (name, value) in &schema.defaults {
        builder = builder.set_default(name, value.clone())?;
    }
    for (name, value) in given {
        builder = builder.set_override(name, value.clone())?;
    }
    builder.build()
}

/// The bad setting of an error, and its allowed values.
fn name_and_allowed(error: ConfigError) -> (String, String) {
    match error {
        ConfigError::At { error, key, .. } => {
            let message = error.to_string();
            let allowed = match message.starts_with("must ") {
                true => format!("it {message}"),
                false => message,
            };
            (key.unwrap_or_default(), allowed)
        }
        ConfigError::Type { key, expected, .. } => {
            (key.unwrap_or_default(), format!("it must be {expected}"))
        }
        other => (String::new(), other.to_string()),
    }
}

fn not_allowed(
    schema: &Schema,
    name: &str,
    given: Option<Value>,
    allowed: String,
) -> InvalidSetting {
    let origin = given.as_ref().and_then(|value| value.origin());
    let origin = origin.unwrap_or("the default file").to_owned();
    let value = given.as_ref().or_else(|| schema.defaults.get(name));
    let value = value.map_or_else(|| "nothing".to_owned(), |value| shown(name, &value.kind));
    InvalidSetting {
        name: name.to_owned(),
        origin,
        problem: SettingProblem::NotAllowed { value, allowed },
    }
}

/// A value without its secrets.
fn shown(name: &str, value: &ValueKind) -> String {
    let is_url = name.ends_with(".url") || name.ends_with("_endpoint");
    match value {
        ValueKind::String(text) if is_url => {
            format!("{:?}", SecretUrl::new(text.as_str()).to_string())
        }
        _ if is_url || name == "secrets.keys" => "***".to_owned(),
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Float(number) => format!("{number:?}"),
        ValueKind::Array(values) => {
            let values: Vec<_> = values
                .iter()
                .map(|value| shown(name, &value.kind))
                .collect();
            format!("[{}]", values.join(", "))
        }
        ValueKind::Table(_) => "{…}".to_owned(),
        plain => plain.to_string(),
    }
}

/// Prefetched deliveries wait in a queue of their subscription. With no more of them than slots, one receiver that
/// hangs would hold up all others.
fn contradiction(
    settings: &Settings,
    schema: &Schema,
    given: &SettingValues,
) -> Option<InvalidSetting> {
    const NAME: &str = "dispatcher.prefetch";
    let dispatcher = &settings.dispatcher;
    (usize::from(dispatcher.prefetch) <= dispatcher.slots).then(|| {
        let allowed = format!(
            "it must be more than dispatcher.slots, which is {}",
            dispatcher.slots
        );
        not_allowed(schema, NAME, given.get(NAME).cloned(), allowed)
    })
}

#[cfg(test)]
mod tests;
