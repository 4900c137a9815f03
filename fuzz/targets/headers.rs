//! Headers from outside, one on each line: trace contexts, what a receiver says of the next attempt,
//! and a customer's own.
#![no_main]

use hookline_core::headers::CustomHeaders;
use hookline_core::retry::retry_after;
use hookline_core::trace::TraceParent;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut custom = CustomHeaders::default();
    for line in text.lines() {
        if let Some(trace) = TraceParent::parse(line) {
            assert_eq!(TraceParent::parse(&trace.to_string()), Some(trace));
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let _ = retry_after(value, None, hookline_core::timestamp::Timestamp::from_unix_micros(0));
        let _ = retry_after(value, Some(name), hookline_core::timestamp::Timestamp::from_unix_micros(0));
        if custom.add(name, value).is_ok() {
            assert!(custom.add(name, value).is_err(), "there twice");
        }
    }
});
