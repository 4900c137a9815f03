//! Fail points: places between two steps where a test crashes a process or delays it.
//!
//! Without the feature `fault-points` they do nothing. With it, `FAILPOINTS="NAME=return"` aborts
//! the process at the first pass, `FAILPOINTS="NAME=3*off->return"` at the fourth, and
//! `FAILPOINTS="NAME=panic"` panics. `FAILPOINTS_FILE` names a file with the same text, which
//! a test may change while the process runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const READ_EVERY: Duration = Duration::from_millis(100);

/// Arms the points of the environment. Called once, at the start.
pub fn arm() {
    if fail::has_failpoints() {
        // The scenario lasts as long as the process.
        std::mem::forget(fail::FailScenario::setup());
        if let Some(file) = std::env::var_os("FAILPOINTS_FILE").map(PathBuf::from) {
            let mut armed = BTreeMap::new();
            follow(&mut armed, &file);
            std::thread::spawn(move || {
                loop {
                    std::thread::sleep(READ_EVERY);
                    follow(&mut armed, &file);
                }
            });
        }
    }
}

/// Arms the points that the file has now, and disarms those that it had before.
fn follow(armed: &mut BTreeMap<String, String>, file: &Path) {
    let Ok(text) = std::fs::read_to_string(file) else {
        return;
    };
    let points: BTreeMap<String, String> = text
        .split(';')
        .filter_map(|point| point.trim().split_once('='))
        .map(|(name, actions)| (name.to_owned(), actions.to_owned()))
        .collect();
    for name in armed.keys().filter(|name| !points.contains_key(*name)) {
        fail::remove(name);
    }
    for (name, actions) in &points {
        if armed.get(name) != Some(actions)
            && let Err(why) = fail::cfg(name, actions)
        {
            tracing::error!(name, actions, why, "cannot arm a fail point");
        }
    }
    *armed = points;
}

/// Ends the process where a test has armed this point for one event or delivery, as `NAME::MARK=return`.
pub fn point_of(name: &str, mark: impl std::fmt::Display) {
    if fail::has_failpoints() {
        point(&format!("{name}::{mark}"));
    }
}

/// Ends the process where a test has armed this point.
pub fn point(name: &str) {
    fail::fail_point!(name, |_| std::process::abort());
    let _ = name;
}
