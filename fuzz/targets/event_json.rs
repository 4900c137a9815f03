//! What a publisher sends as JSON: an event whose body is an event again, the same one, or an error.
#![no_main]

use hookline_core::event::{Event, MissingId};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = Event::from_json(bytes, MissingId::Refused) else {
        return;
    };
    assert_eq!(Event::from_json(&event.body, MissingId::Refused), Ok(event));
});
