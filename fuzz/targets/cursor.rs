//! What comes back from a caller as the end of a page: a cursor that is written as it was read, or
//! an error.
#![no_main]

use hookline_core::cursor::Cursor;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(cursor) = Cursor::parse(text, hookline_core::cursor::List::Log) {
        assert_eq!(cursor.to_string(), text);
    }
});
