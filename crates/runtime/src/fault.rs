//! Places where a test may end a process, between two steps that a crash could come between.
//!
//! Without the feature `fault-points` they are nothing. With it, `FAILPOINTS="NAME=return"` aborts
//! the process at the first pass, `FAILPOINTS="NAME=3*off->return"` at the fourth, and
//! `FAILPOINTS="NAME=panic"` panics there.

/// Reads which points are armed. Called once, at the start.
pub fn arm() {
    if fail::has_failpoints() {
        // The scenario lasts as long as the process.
        std::mem::forget(fail::FailScenario::setup());
    }
}

/// Ends the process here, where a test has armed this point for this very thing: as
/// `NAME::MARK=return`.
pub fn point_of(name: &str, mark: impl std::fmt::Display) {
    if fail::has_failpoints() {
        point(&format!("{name}::{mark}"));
    }
}

/// Ends the process here, where a test has armed this point.
pub fn point(name: &str) {
    fail::fail_point!(name, |_| std::process::abort());
    let _ = name;
}
