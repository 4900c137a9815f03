//! Wake-ups that a test drops, to show that no delivery depends on them.
//!
//! In a build with the feature `fault-points`, `FAILPOINTS="queue::wake=return(3)"` drops every third one of a process
//! and `return(1)` all of them.

use std::sync::atomic::{AtomicU64, Ordering};

static PASSED: AtomicU64 = AtomicU64::new(0);

/// Whether the next wake-up is dropped.
pub fn drops_a_wake_up() -> bool {
    let passed = &PASSED;
    fail::fail_point!("queue::wake", |every: Option<String>| {
        let every = every.and_then(|every| every.parse().ok()).unwrap_or(1);
        (passed.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every)
    });
    // Without the feature, neither is used.
    let _ = (passed, Ordering::Relaxed);
    false
}
