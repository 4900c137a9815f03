//! A settings file and, after the first NUL, lines of variables: settings, or every bad one named
//! without a panic.
#![no_main]

use std::ffi::OsString;

use hookline_runtime::settings::Settings;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (file, variables) = text.split_once('\0').unwrap_or((text, ""));
    let environment = variables.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((OsString::from(format!("HOOKLINE__{name}")), value.into()))
    });
    if let Err(why) = Settings::read(Some(("a file", file)), environment) {
        assert!(!why.to_string().is_empty());
    }
});
