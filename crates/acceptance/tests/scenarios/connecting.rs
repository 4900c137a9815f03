//! Connecting: one working path to a receiver is enough. It may be one address of a name or one address family of two.
//! It may also be a fresh connection where a kept one has ended.

mod addresses;
mod kept;

use hookline_acceptance::sentences;
use hookline_acceptance::suite::{Alone, Shared};

pub(crate) fn shared() -> Vec<Shared> {
    sentences![
        kept::a_request_on_a_connection_that_ends_is_made_again_in_the_same_attempt,
        kept::half_an_answer_on_a_kept_connection_is_a_failure,
        kept::a_fresh_connection_that_closes_without_an_answer_is_a_failure,
    ]
}

pub(crate) fn alone() -> Vec<Alone> {
    sentences![
        addresses::a_name_is_called_when_one_address_of_it_is_dead,
        addresses::what_a_name_server_says_of_one_family_is_used_without_the_other,
        addresses::an_address_that_comes_late_is_judged_before_it_is_dialled,
    ]
}
