//! Which settings exist, and where their values come from: the default file, the file of `--config` and the
//! environment.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use config::{Value, ValueKind};

use super::error::{InvalidSetting, PREFIX, SettingProblem, SettingsError, variable};

pub(super) const DEFAULT_FILE: &str = include_str!("default.toml");

/// Values by the names of their settings, `section.key`. Each value knows its origin, a file or a variable.
pub(super) type SettingValues = BTreeMap<String, Value>;

/// The settings of the default file.
pub(super) struct Schema {
    pub(super) defaults: SettingValues,
}

impl Schema {
    pub(super) fn compiled_in() -> Result<Self, SettingsError> {
        let mut defaults = SettingValues::new();
        for (section, value) in parse("compiled in", DEFAULT_FILE)? {
            let keys = value.into_table().unwrap_or_default().into_iter();
            defaults.extend(keys.map(|(key, value)| (format!("{section}.{key}"), value)));
        }
        Ok(Self { defaults })
    }

    /// The settings of a file. Unknown ones are added to `invalid`.
    pub(super) fn read_file(
        &self,
        file: &str,
        text: &str,
        invalid: &mut Vec<InvalidSetting>,
    ) -> Result<SettingValues, SettingsError> {
        let mut values = SettingValues::new();
        let origin = file.to_owned();
        for (section, value) in parse(file, text)? {
            let mut refuse = |name, problem| {
                let origin = origin.clone();
                invalid.push(InvalidSetting {
                    name,
                    origin,
                    problem,
                });
            };
            let ValueKind::Table(keys) = value.kind else {
                let problem = match self.has(&section) {
                    true => SettingProblem::NotAllowed {
                        value: "…".to_owned(),
                        allowed: format!("it must be a section: [{section}]"),
                    },
                    false => self.unknown(&section),
                };
                refuse(section, problem);
                continue;
            };
            if !self.has(&section) {
                refuse(section.clone(), self.unknown(&section));
                continue;
            }
            for (key, value) in keys {
                let name = format!("{section}.{key}");
                if self.defaults.contains_key(&name) {
                    values.insert(name, Value::new(Some(&origin), value.kind));
                } else {
                    refuse(name, self.unknown(&section));
                }
            }
        }
        Ok(values)
    }

    /// The settings of the variables that begin with [`PREFIX`]. Unknown ones are added to `invalid`.
    pub(super) fn read_environment(
        &self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        invalid: &mut Vec<InvalidSetting>,
    ) -> SettingValues {
        let mut values = SettingValues::new();
        for (origin, text) in environment {
            let origin = origin.to_string_lossy().into_owned();
            let Some(rest) = origin.strip_prefix(PREFIX) else {
                continue;
            };
            let name = rest.to_ascii_lowercase().replace("__", ".");
            match self.read_variable(&origin, &name, text) {
                Ok(value) => {
                    values.insert(name, Value::new(Some(&origin), value));
                }
                Err(problem) => invalid.push(InvalidSetting {
                    name,
                    origin,
                    problem,
                }),
            }
        }
        values
    }

    /// Where the default is a text, the variable is taken as it is, so that a password of digits stays a text.
    fn read_variable(
        &self,
        variable: &str,
        name: &str,
        text: OsString,
    ) -> Result<ValueKind, SettingProblem> {
        let meant = self.variable_like(variable);
        if let Some(meant) = meant.filter(|meant| meant != variable) {
            return Err(SettingProblem::Unknown(format!("its name is {meant}")));
        }
        let section = name.split('.').next().unwrap_or_default();
        let default = self.defaults.get(name);
        let default = default.ok_or_else(|| self.unknown(section))?;
        let text = text.into_string().map_err(|_| SettingProblem::NotAllowed {
            value: "***".to_owned(),
            allowed: "it must be UTF-8".to_owned(),
        })?;
        Ok(match default.kind {
            ValueKind::String(_) => text.into(),
            _ => parse_variable(&text),
        })
    }

    /// The variable of the setting that `name` may mean: the same letters, with other underscores or case.
    pub(super) fn variable_like(&self, name: &str) -> Option<String> {
        let letters = |name: &str| name.replace('_', "").to_ascii_uppercase();
        let wanted = letters(name);
        let mut variables = self.defaults.keys().map(|name| variable(name));
        variables.find(|variable| letters(variable) == wanted)
    }

    fn has(&self, section: &str) -> bool {
        self.sections().contains(section)
    }

    fn sections(&self) -> BTreeSet<&str> {
        let sections = self.defaults.keys().filter_map(|name| name.split_once('.'));
        sections.map(|(section, _)| section).collect()
    }

    /// Lists what a section has, or the sections where there is no such section.
    fn unknown(&self, section: &str) -> SettingProblem {
        let listed = |names: Vec<&str>| names.join(", ");
        if !self.has(section) {
            let sections = listed(self.sections().into_iter().collect());
            return SettingProblem::Unknown(format!("the sections are {sections}"));
        }
        let split = self.defaults.keys().filter_map(|name| name.split_once('.'));
        let keys = split.filter(|(of, _)| *of == section).map(|(_, key)| key);
        SettingProblem::Unknown(format!("[{section}] has {}", listed(keys.collect())))
    }
}

/// The sections of a file, or the line that is not TOML. That line may hold a password, so it is not shown.
pub(super) fn parse(file: &str, text: &str) -> Result<SettingValues, SettingsError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        SettingsError::NotToml {
            file: file.to_owned(),
            line: before.unwrap_or_default().matches('\n').count() + 1,
            message: error.message().replace('\n', " "),
        }
    })
}

/// A number, a truth value, a text with or without quotes, or a list of these such as `[443, 8443]`.
fn parse_variable(text: &str) -> ValueKind {
    let text = text.trim();
    let inside = |open, close| text.strip_prefix(open)?.strip_suffix(close);
    if let Some(list) = inside('[', ']') {
        let items = list.split(',').filter(|item| !item.trim().is_empty());
        return items.map(parse_variable).collect::<Vec<_>>().into();
    }
    let integer = text.parse::<i64>().map(ValueKind::from);
    let truth = || text.parse::<bool>().map(ValueKind::from);
    let plain = integer.or_else(|_| truth());
    plain.unwrap_or_else(|_| inside('"', '"').unwrap_or(text).into())
}
