//! Three layers, each over the one before: the default file, the file of `--config`, and the
//! environment.

use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::refused::{Refused, SettingsError, Why, allowed, shown, variable};
use super::{LogFormat, Settings, known};

const DEFAULT_FILE: &str = include_str!("default.toml");

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// The origin of what came from variables.
const ENVIRONMENT: &str = "the environment";

impl Settings {
    /// The commented default file.
    pub fn default_file() -> &'static str {
        DEFAULT_FILE
    }

    /// Reads the settings of this process.
    ///
    /// # Errors
    /// [`SettingsError`] for a file that cannot be read and for every setting that is bad.
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

    /// How the line looks that says why the process ends: as its log, also where the settings are bad.
    pub(crate) fn format_of_process() -> LogFormat {
        FORMAT.get().copied().unwrap_or(LogFormat::Text)
    }

    /// The same with an environment of one's own.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_with(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let file = match file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| {
                    let path = path.to_owned();
                    SettingsError::Unreadable { path, source }
                })?;
                Some((path.display().to_string(), text))
            }
        };
        let file = file.as_ref().map(|(name, text)| (&**name, &**text));
        Self::read(file, environment)
    }

    /// The same from a file's name and text.
    ///
    /// # Errors
    /// [`SettingsError`] for every setting that is bad.
    pub fn read(
        file: Option<(&str, &str)>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let defaults = defaults()?;
        let mut refused = Vec::new();
        let mut layers = Figment::from(Layer::new("the default file", defaults.clone()));
        if let Some((origin, text)) = file {
            let settings = parse(origin, text)?;
            let known = known::of_file(settings, &defaults, origin, &mut refused);
            layers = layers.merge(Layer::new(origin, known));
        }
        let known = known::of_environment(environment, &defaults, &mut refused);
        layers = layers.merge(Layer::new(ENVIRONMENT, known));
        extract(layers, &defaults, refused)
    }
}

/// The log's format where other settings are bad.
fn wanted_format(file: Option<&Path>, variable: Option<&str>) -> LogFormat {
    let in_file = || -> Option<String> {
        let text = std::fs::read_to_string(file?).ok()?;
        let settings: Dict = Toml::from_str(&text).ok()?;
        let format = Value::from(settings).find("log.format")?;
        Some(format.as_str()?.to_owned())
    };
    match variable.map(str::to_owned).or_else(in_file).as_deref() {
        Some("json") => LogFormat::Json,
        _ => LogFormat::Text,
    }
}

/// Puts the default in place of each bad value, so that all of them are found at once.
fn extract(
    mut layers: Figment,
    defaults: &Dict,
    mut refused: Vec<Refused>,
) -> Result<Settings, SettingsError> {
    loop {
        let error = match layers.extract::<Settings>() {
            Ok(settings) => {
                refused.extend(contradiction(&settings, &layers));
                return match refused.is_empty() {
                    true => Ok(settings),
                    false => Err(SettingsError::Refused(refused)),
                };
            }
            Err(error) => error,
        };
        let name = error
            .path
            .iter()
            .take(2)
            .cloned()
            .collect::<Vec<_>>()
            .join(".");
        let origin = origin(&layers, &name);
        let value = layers.find_value(&name).ok();
        let default = Value::from(defaults.clone()).find(&name);
        let seen = refused.iter().any(|refused| refused.name == name);
        refused.push(Refused {
            why: Why::NotAllowed {
                value: value.map_or_else(|| "nothing".to_owned(), |value| shown(&name, &value)),
                allowed: allowed(&error.kind),
            },
            origin,
            name: name.clone(),
        });
        match default {
            Some(default) if !seen => layers = layers.merge(Serialized::default(&name, default)),
            _ => return Err(SettingsError::Refused(refused)),
        }
    }
}

fn origin(layers: &Figment, name: &str) -> String {
    match layers.find_metadata(name) {
        Some(metadata) if metadata.name == ENVIRONMENT => variable(name),
        Some(metadata) => metadata.name.to_string(),
        None => "nowhere".to_owned(),
    }
}

/// What is taken ahead waits by receiver: without any, one that hangs would hold up all.
fn contradiction(settings: &Settings, layers: &Figment) -> Option<Refused> {
    const NAME: &str = "dispatcher.prefetch";
    let dispatcher = &settings.dispatcher;
    (usize::from(dispatcher.prefetch) <= dispatcher.slots).then(|| Refused {
        name: NAME.to_owned(),
        origin: origin(layers, NAME),
        why: Why::NotAllowed {
            value: dispatcher.prefetch.to_string(),
            allowed: format!(
                "it must be more than dispatcher.slots, which is {}",
                dispatcher.slots
            ),
        },
    })
}

/// The settings of the default file.
pub(super) fn defaults() -> Result<Dict, SettingsError> {
    parse("compiled in", DEFAULT_FILE)
}

fn parse(origin: &str, text: &str) -> Result<Dict, SettingsError> {
    Toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        SettingsError::NotToml {
            file: origin.to_owned(),
            line: before.unwrap_or_default().matches('\n').count() + 1,
            message: error.message().replace('\n', " "),
        }
    })
}

struct Layer {
    origin: String,
    settings: Dict,
}

impl Layer {
    fn new(origin: impl Into<String>, settings: Dict) -> Self {
        Self {
            origin: origin.into(),
            settings,
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.settings.clone()))
    }
}

#[cfg(test)]
mod tests;
