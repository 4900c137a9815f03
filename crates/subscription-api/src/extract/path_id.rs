//! The id in a path. What cannot be an id names nothing, so it is 404 like any other that names
//! nothing, and not a bad request.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use hookline_core::ids::{DeliveryId, EventId, ReplayId, SubscriptionId};
use uuid::Uuid;

use crate::error::ApiError;

/// `{id}` of a subscription's path.
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

/// `{id}` of a delivery's path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathDelivery(pub(crate) DeliveryId);

impl FromRequest for PathDelivery {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(parse_uuid);
        ready(id.map(|id| Self(DeliveryId(id))).ok_or(ApiError::NotFound))
    }
}

/// `{id}` of a replay's path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathReplay(pub(crate) ReplayId);

impl FromRequest for PathReplay {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(parse_uuid);
        ready(id.map(|id| Self(ReplayId(id))).ok_or(ApiError::NotFound))
    }
}

/// As we write it, and not in any of the other forms that a UUID may have.
fn parse_uuid(text: &str) -> Option<Uuid> {
    let hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
    Uuid::try_parse(text).ok().filter(|_| hyphenated)
}

/// `{event_id}` of an event's path: any text, percent-encoded.
#[derive(Debug, Clone)]
pub(crate) struct PathEvent(pub(crate) EventId);

impl FromRequest for PathEvent {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        // The router leaves some characters encoded, the extractor none.
        let text = web::Path::<String>::from_request(request, payload).into_inner();
        let id = text
            .ok()
            .and_then(|text| EventId::parse(text.into_inner()).ok());
        ready(id.map(PathEvent).ok_or(ApiError::NotFound))
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
    #[test]
    fn the_id_of_a_delivery_is_a_uuid_as_we_write_it() {
        let text = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert_eq!(parse_uuid(text).unwrap().to_string(), text);
        let simple = text.replace('-', "");
        for bad in [
            "",
            "1",
            &simple,
            &format!("{{{text}}}"),
            &format!("urn:uuid:{text}"),
        ] {
            assert_eq!(parse_uuid(bad), None, "{bad:?}");
        }
    }
}
