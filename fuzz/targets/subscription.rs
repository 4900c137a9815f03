//! What a customer registers and changes: within every limit, or an error that names the field.
#![no_main]

use hookline_core::subscription::{NewSubscription, SubscriptionPatch};
use hookline_core::target::{TargetRules, TargetUrl};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        return;
    };
    let rules = TargetRules::default();
    let _ = SubscriptionPatch::from_json(body.clone(), &rules);
    if let Ok(new) = NewSubscription::from_json(body, &rules, [7; 32]) {
        assert!(new.headers.fits());
        assert!(TargetUrl::parse(new.url.as_str(), &rules).is_ok());
    }
});
