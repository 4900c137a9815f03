//! Ids in the path. An invalid id is 404 like an unknown one, not 400.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use hookline_core::ids::{DeliveryId, EventId, ReplayId, SubscriptionId};
use uuid::Uuid;

use crate::error::ApiError;

/// An extractor of `{id}` from the path.
macro_rules! path_id {
    ($name:ident($id:ty), $parse:expr) => {
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name(pub(crate) $id);

        impl FromRequest for $name {
            type Error = ApiError;
            type Future = Ready<Result<Self, ApiError>>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                let id = request.match_info().get("id").and_then($parse);
                ready(id.map(Self).ok_or(ApiError::NotFound))
            }
        }
    };
}

path_id!(PathSubscription(SubscriptionId), parse_subscription);
path_id!(PathDelivery(DeliveryId), |text| parse_uuid(text)
    .map(DeliveryId));
path_id!(PathReplay(ReplayId), |text| parse_uuid(text).map(ReplayId));

/// Parses the form with hyphens only, which is the form that responses have.
fn parse_uuid(text: &str) -> Option<Uuid> {
    let hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
    Uuid::try_parse(text).ok().filter(|_| hyphenated)
}

/// `{event_id}` of the path: any text, percent-encoded.
#[derive(Debug, Clone)]
pub(crate) struct PathEvent(pub(crate) EventId);

impl FromRequest for PathEvent {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        // The router leaves some characters encoded; this extractor decodes all.
        let text = web::Path::<String>::from_request(request, payload).into_inner();
        let id = text
            .ok()
            .and_then(|text| EventId::parse(text.into_inner()).ok());
        ready(id.map(PathEvent).ok_or(ApiError::NotFound))
    }
}

/// None for all but a number from 1 on.
pub(crate) fn parse_subscription(text: &str) -> Option<SubscriptionId> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok().filter(|id| digits && *id > 0)?;
    Some(SubscriptionId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_id_is_an_i64_above_0() {
        assert_eq!(parse_subscription("7"), Some(SubscriptionId(7)));
        assert_eq!(
            parse_subscription("9223372036854775807"),
            Some(SubscriptionId(i64::MAX))
        );
        for bad in ["", "0", "-1", "+1", "1.0", "x", "9223372036854775808", "1 "] {
            assert_eq!(parse_subscription(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_delivery_id_is_a_uuid_with_hyphens() {
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
