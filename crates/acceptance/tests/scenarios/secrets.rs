//! Customers' secrets are sealed in the database and appear in no output. During a change no request is signed wrongly.

mod leaks;
mod master_keys;
mod missing_key;
mod rotation;

use hookline_acceptance::sentences;
use hookline_acceptance::suite::{Alone, Shared};

pub(crate) fn shared() -> Vec<Shared> {
    sentences![
        rotation::both_secrets_sign_during_an_overlap,
        rotation::an_overlap_ends_when_it_is_over_or_the_secret_is_changed,
        rotation::a_rotation_makes_the_first_secret_and_refuses_what_is_none,
    ]
}

pub(crate) fn alone() -> Vec<Alone> {
    sentences![
        leaks::what_is_secret_is_in_no_output_and_not_in_the_database,
        master_keys::everything_is_signed_right_while_the_master_key_changes,
        master_keys::nobody_starts_with_a_wrong_master_key,
    ]
}

pub(crate) fn distributed() -> Vec<Alone> {
    sentences![
        master_keys::a_secret_that_does_not_open_costs_its_own_subscription,
        missing_key::deliveries_without_a_master_key_cost_others_nothing_and_come_with_the_key,
    ]
}
