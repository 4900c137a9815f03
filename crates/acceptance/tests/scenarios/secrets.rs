//! Customers' secrets are sealed in the database and appear in no output. During a change no request is signed wrongly.

mod leaks;
mod master_keys;
mod missing_key;
mod rotation;

use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        rotation::both_secrets_sign_during_an_overlap,
        rotation::a_rotation_overlap_ends_on_time_or_when_the_secret_is_changed,
        rotation::a_generated_secret_is_shown_once_and_signs,
        rotation::a_rotation_creates_the_first_secret_and_refuses_invalid_ones,
    ]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        leaks::secrets_are_in_no_output_and_not_in_the_database,
        master_keys::signatures_hold_while_the_master_key_changes,
        master_keys::no_service_starts_with_a_wrong_master_key,
    ]
}

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        master_keys::a_secret_that_cannot_be_decrypted_affects_only_its_subscription,
        missing_key::deliveries_without_their_master_key_wait_and_delay_no_other,
    ]
}
