//! What comes back from a caller as the end of a page: a cursor that is written as it was read, or
//! an error.
#![no_main]

use hookline_core::cursor::Rows;
use hookline_core::ids::OrganizationId;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let organization = OrganizationId::parse("a").unwrap();
    let log = Rows::Attempts.of(&organization, "");
    if let Ok(cursor) = log.parse(text) {
        assert_eq!(log.text(cursor), text);
    }
});
