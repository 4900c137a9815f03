//! What is allowed and hardly meant: a start warns of it and goes on.

use std::ffi::OsString;

use figment::value::{Dict, Value};

use super::key_file::warn_of_key_file;
use super::refused::variable;
use super::{Settings, load};
use crate::shutdown;

impl Settings {
    /// A sentence for each thing in these settings and in this process's environment that an operator
    /// should look at.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings_with(std::env::vars_os().map(|(name, _)| name))
    }

    /// The same with the names of an environment of one's own.
    pub fn warnings_with(&self, names: impl IntoIterator<Item = OsString>) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Ok(defaults) = load::defaults() {
            for name in names {
                let Some(name) = name.to_str() else { continue };
                if let Some(meant) = meant(name, &defaults).filter(|meant| meant != name) {
                    warnings.push(format!(
                        "the variable {name} is not read: the setting's name is {meant}, with two \
                         underscores before the section and before the key"
                    ));
                }
            }
        }
        warnings.extend(self.grace());
        warnings.extend(warn_of_key_file(&self.secrets.key_file));
        warnings
    }

    fn grace(&self) -> Option<String> {
        let (grace, deadline) = (self.stop.grace, self.dispatcher.deadline);
        let working = shutdown::working(grace);
        (working < deadline).then(|| {
            format!(
                "stop.grace_seconds = {} leaves a stop {} s to finish requests, less than \
                 dispatcher.deadline_seconds = {}: slower requests are given up at a stop and made again",
                grace.as_secs(),
                working.as_secs_f32(),
                deadline.as_secs()
            )
        })
    }
}

/// The variable of the setting that a name stands for, however it writes underscores and case.
pub(super) fn meant(name: &str, defaults: &Dict) -> Option<String> {
    let squeezed = |name: &str| name.replace('_', "").to_ascii_uppercase();
    let wanted = squeezed(name);
    if !wanted.starts_with("HOOKLINE") {
        return None;
    }
    let of_section = |(section, value): (&String, &Value)| {
        let Value::Dict(_, settings) = value else {
            return None;
        };
        let variables = settings
            .keys()
            .map(|key| variable(&format!("{section}.{key}")));
        variables
            .into_iter()
            .find(|variable| squeezed(variable) == wanted)
    };
    defaults.iter().find_map(of_section)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(variables: &[(&str, &str)]) -> Vec<String> {
        let owned = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        let settings = Settings::load_with(None, variables.iter().map(owned)).unwrap();
        settings.warnings_with(variables.iter().map(|(name, _)| OsString::from(name)))
    }

    #[test]
    fn a_variable_with_single_underscores_is_named_with_the_one_that_is_read() {
        for (name, meant) in [
            ("HOOKLINE_STORE_URL", "HOOKLINE__STORE__URL"),
            ("HOOKLINE_STORE__URL", "HOOKLINE__STORE__URL"),
            ("hookline__store__url", "HOOKLINE__STORE__URL"),
            (
                "HOOKLINE_STOP_GRACE_SECONDS",
                "HOOKLINE__STOP__GRACE_SECONDS",
            ),
        ] {
            let warned = warnings(&[(name, "hush")]);
            let begin = format!("the variable {name} is not read: the setting's name is {meant}");
            assert!(
                warned.len() == 1 && warned[0].starts_with(&begin),
                "{warned:?}"
            );
            assert!(!warned[0].contains("hush"));
        }
        for name in [
            "HOOKLINE_API_KEY",
            "HOOKLINE_API_SERVICE_HOST",
            "HOOKLINE__LOG__LEVEL",
            "STORE_URL",
            "HOOKLINE",
        ] {
            assert_eq!(warnings(&[(name, "info")]), [""; 0], "{name}");
        }
    }

    #[test]
    fn a_stop_that_is_shorter_than_a_request_is_warned_of() {
        let warned = warnings(&[("HOOKLINE__STOP__GRACE_SECONDS", "10")]);
        assert_eq!(
            warned,
            [
                "stop.grace_seconds = 10 leaves a stop 8 s to finish requests, less than \
              dispatcher.deadline_seconds = 15: slower requests are given up at a stop and made again"
            ]
        );
        assert_eq!(warnings(&[]), [""; 0]);
    }
}
