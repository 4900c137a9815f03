//! A wake-up from the broker: deliveries that are written as they were read, or an error.
#![no_main]

use hookline_core::wire::WakeUp;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(wake_up) = WakeUp::from_wire(bytes) else {
        return;
    };
    assert!(wake_up.0.len() <= WakeUp::MOST_READ);
    assert_eq!(WakeUp::from_wire(&wake_up.to_wire()), Ok(wake_up));
});
