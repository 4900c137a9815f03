//! The id in a path. What cannot be the id of a subscription names none, so it is 404 like any
//! other that names none, and not a bad request.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use hookline_core::ids::SubscriptionId;

use crate::error::ApiError;

/// `{id}` of the path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathId(pub(crate) SubscriptionId);

impl FromRequest for PathId {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(parse);
        ready(id.map(PathId).ok_or(ApiError::NotFound))
    }
}

fn parse(text: &str) -> Option<SubscriptionId> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok().filter(|id| digits && *id > 0)?;
    Some(SubscriptionId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_whole_number_above_0_that_the_store_can_hold() {
        assert_eq!(parse("7"), Some(SubscriptionId(7)));
        assert_eq!(parse("9223372036854775807"), Some(SubscriptionId(i64::MAX)));
        for bad in ["", "0", "-1", "+1", "1.0", "x", "9223372036854775808", "1 "] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
