//! Settings that are allowed and probably a mistake: a start warns of them and goes on.

use std::ffi::OsString;

use super::key_file::warn_of_key_file;
use super::schema::Schema;
use super::sections::Settings;
use crate::shutdown;

impl Settings {
    /// One sentence for each suspicious setting, and for each variable of this process that looks like a setting and
    /// is not read.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings_with(std::env::vars_os().map(|(name, _)| name))
    }

    /// The same with the names of the given variables.
    pub fn warnings_with(&self, names: impl IntoIterator<Item = OsString>) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Ok(schema) = Schema::compiled_in() {
            for name in names {
                let Some(name) = name.to_str() else { continue };
                let meant = schema.variable_like(name);
                if let Some(meant) = meant.filter(|meant| meant != name) {
                    warnings.push(format!(
                        "the variable {name} is not read: the setting's name is {meant}, with two \
                         underscores before the section and before the key"
                    ));
                }
            }
        }
        warnings.extend(self.grace());
        let key_file = self.secrets.key_file.as_deref();
        warnings.extend(key_file.and_then(warn_of_key_file));
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
