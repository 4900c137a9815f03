//! Three layers, each over the one before: the default file, the file of `--config`, and the
//! environment.

use std::ffi::OsString;
use std::path::Path;

use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::refused::{Refused, SettingsError, Why, allowed, shown, variable};
use super::{Settings, known};

const DEFAULT_FILE: &str = include_str!("default.toml");

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
        Self::load_with(file, std::env::vars_os())
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
        let defaults = parse("compiled in", DEFAULT_FILE)?;
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
