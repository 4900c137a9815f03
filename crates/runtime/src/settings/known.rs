//! Sorts out what the default file does not have, by name: in the file of `--config` and in the
//! environment.

use std::ffi::OsString;

use figment::value::{Dict, Value};

use super::refused::{PREFIX, Refused, Why};
use super::warnings::meant;

/// Keeps what the default file has, too.
pub(super) fn of_file(
    file: Dict,
    defaults: &Dict,
    origin: &str,
    refused: &mut Vec<Refused>,
) -> Dict {
    let mut refuse = |name: String, why| {
        let origin = origin.to_owned();
        refused.push(Refused { name, origin, why });
    };
    let mut known = Dict::new();
    for (section, value) in file {
        let Some(Value::Dict(_, settings)) = defaults.get(&section) else {
            refuse(section, Why::Unknown(sections(defaults)));
            continue;
        };
        let Value::Dict(tag, mut values) = value else {
            let allowed = format!("it must be a section: [{section}]");
            let value = "…".to_owned();
            refuse(section, Why::NotAllowed { value, allowed });
            continue;
        };
        values.retain(|key, _| {
            let is_known = settings.contains_key(key);
            if !is_known {
                refuse(
                    format!("{section}.{key}"),
                    Why::Unknown(keys(&section, settings)),
                );
            }
            is_known
        });
        known.insert(section, Value::Dict(tag, values));
    }
    known
}

/// Reads the variables that the default file has a setting for.
pub(super) fn of_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    defaults: &Dict,
    refused: &mut Vec<Refused>,
) -> Dict {
    let mut known = Dict::new();
    for (origin, text) in environment {
        let origin = origin.to_string_lossy().into_owned();
        let Some(rest) = origin.strip_prefix(PREFIX) else {
            continue;
        };
        let name = rest.to_ascii_lowercase().replace("__", ".");
        let (section, key) = name.split_once('.').unwrap_or((&name, ""));
        let expected = meant(&origin, defaults).filter(|expected| *expected != origin);
        let value = match expected {
            Some(expected) => Err(Why::Unknown(format!("its name is {expected}"))),
            None => default_of(section, key, defaults).and_then(|default| read(text, default)),
        };
        match value {
            Ok(value) => {
                let values = known.entry(section.to_owned());
                if let Value::Dict(_, values) = values.or_insert_with(|| Dict::new().into()) {
                    values.insert(key.to_owned(), value);
                }
            }
            Err(why) => refused.push(Refused { name, origin, why }),
        }
    }
    known
}

fn default_of<'a>(section: &str, key: &str, defaults: &'a Dict) -> Result<&'a Value, Why> {
    let Some(Value::Dict(_, settings)) = defaults.get(section) else {
        return Err(Why::Unknown(sections(defaults)));
    };
    settings
        .get(key)
        .ok_or_else(|| Why::Unknown(keys(section, settings)))
}

/// Where the setting is a text the variable is taken as it stands, so that a password of digits
/// stays a text; any other is read as TOML.
fn read(text: OsString, default: &Value) -> Result<Value, Why> {
    let text = text.into_string().map_err(|_| Why::NotAllowed {
        value: "***".to_owned(),
        allowed: "it must be UTF-8".to_owned(),
    })?;
    let Ok(value) = match default {
        Value::String(..) => Ok(Value::from(text)),
        _ => text.parse::<Value>(),
    };
    Ok(value)
}

fn sections(defaults: &Dict) -> String {
    format!("the sections are {}", listed(defaults))
}

fn keys(section: &str, settings: &Dict) -> String {
    format!("[{section}] has {}", listed(settings))
}

fn listed(dict: &Dict) -> String {
    dict.keys()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}
