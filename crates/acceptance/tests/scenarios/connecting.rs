//! Connecting: one working path to a receiver is enough. It may be one address of a name or one address family of two.
//! It may also be a fresh connection where a kept one has ended.

mod addresses;
mod kept;

use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        kept::a_request_on_a_connection_that_ends_is_made_again_in_the_same_attempt,
        kept::half_an_answer_on_a_kept_connection_is_a_failure,
        kept::a_fresh_connection_that_closes_without_an_answer_is_a_failure,
    ]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        addresses::a_host_is_reached_when_one_of_its_addresses_is_dead,
        addresses::a_dns_answer_for_one_address_family_is_used_without_the_other,
        addresses::an_address_resolved_late_is_checked_before_it_is_dialled,
    ]
}
