//! A text that a caller sends as a cursor: it is written as it was read, or refused.
#![no_main]

use hookline_core::cursor::CursorKind;
use hookline_core::ids::OrganizationId;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let organization = OrganizationId::parse("a").unwrap();
    let log = CursorKind::Attempts.of(&organization, "");
    if let Ok(cursor) = log.parse(text) {
        assert_eq!(log.text(cursor), text);
    }
});
