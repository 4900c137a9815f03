//! What a publisher sends as Protobuf: an event whose body is the same one in JSON, or an error.
#![no_main]

use bytes::Bytes;
use hookline_core::event::{Event, MissingId};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = Event::from_protobuf(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    assert_eq!(Event::from_json(&event.body, MissingId::Refused), Ok(event));
});
