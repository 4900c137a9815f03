//! What comes back from the broker: an owed attempt that is written as it was read, or an error.
#![no_main]

use hookline_core::delivery::OwedAttempt;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(owed) = OwedAttempt::from_wire(bytes) else {
        return;
    };
    assert_eq!(OwedAttempt::from_wire(&owed.to_wire()), Ok(owed));
});
