//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that creates something, sent
//! again, creates it once and has the same answer, for 24 hours.
//!
//! A key is bound to the API key, the organization, the method and the path. The first request claims
//! the key's row in the store, and the transaction that creates something also keeps the answer there.
//! A request that is refused gives the key back. No kept answer has a secret.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse};
use hookline_core::timestamp::Timestamp;
use hookline_core::violations::Violations;
use hookline_store::{Claim, Claimed, Digest, KeyedRequest, Making, Once, RequestDigests};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::extract::caller::{Caller, bearer};
use crate::state::AppState;

/// The most characters of a key.
const MAX_KEY: usize = 255;

const HEADER: &str = "Idempotency-Key";

/// The key of a request, if it has one.
pub(crate) struct IdempotencyKey(Option<Keyed>);

struct Keyed {
    digests: RequestDigests,
    id: Digest,
}

/// Whether a request is the first one with its key; one without a key always is.
pub(crate) enum Turn {
    First(Option<Claim>),
    Repeat(KeptAnswer),
}

/// An answer as the store keeps it: at most some 20 KiB, those of a subscription.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeptAnswer {
    status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl IdempotencyKey {
    /// Begins a request, whose body is one of the things that a key is bound to.
    pub(crate) async fn begin(&self, service: &AppState, body: &[u8]) -> Result<Turn, ApiError> {
        let Some(keyed) = &self.0 else {
            return Ok(Turn::First(None));
        };
        let now = hookline_clock::now();
        let until = now.after(service.api.settings.request_deadline);
        let claimed = service.api.store.claim(keyed.request(body, until), now);
        match claimed.await? {
            Claimed::First(claim) => Ok(Turn::First(Some(claim))),
            Claimed::Repeat(kept) => Ok(Turn::Repeat(KeptAnswer::read(&kept)?)),
            Claimed::Running => Err(ApiError::Conflict(
                "the first request with this Idempotency-Key is still running; send it again shortly",
            )),
            Claimed::OtherBody => Err(other_body()),
        }
    }

    /// The same for a request that may be done again, because it creates the same things again.
    pub(crate) async fn check(&self, service: &AppState, body: &[u8]) -> Result<(), ApiError> {
        let Some(keyed) = &self.0 else {
            return Ok(());
        };
        let now = hookline_clock::now();
        let claimed = service.api.store.claim(keyed.request(body, now), now);
        match claimed.await? {
            Claimed::OtherBody => Err(other_body()),
            Claimed::First(_) | Claimed::Running | Claimed::Repeat(_) => Ok(()),
        }
    }

    /// Names the request; another one has another digest.
    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.0.as_ref().map(|keyed| &keyed.id)
    }

    fn read(request: &HttpRequest) -> Result<Self, ApiError> {
        let Some(key) = key_in(request.headers())? else {
            return Ok(Self(None));
        };
        let extensions = request.extensions();
        let caller = extensions.get::<Caller>().zip(bearer(request.headers()));
        let Some((caller, api_key)) = caller else {
            let why = "an idempotency key on a route that asks for no key";
            return Err(ApiError::Internal(why.to_owned()));
        };
        let path = request.path();
        let digests = RequestDigests::of(api_key);
        let id = digests.digest(&[
            caller.organization.as_str().as_bytes(),
            request.method().as_str().as_bytes(),
            path.strip_prefix("/v1").unwrap_or(path).as_bytes(),
            key.as_bytes(),
        ]);
        Ok(Self(Some(Keyed { digests, id })))
    }
}

impl Keyed {
    fn request(&self, body: &[u8], claimed_until: Timestamp) -> KeyedRequest {
        KeyedRequest {
            id: self.id,
            fingerprint: self.digests.digest(&[body]),
            claimed_until,
        }
    }
}

fn other_body() -> ApiError {
    let rule = "is that of a request with another body; a key is for one request, for 24 hours";
    Violations::one(HEADER, rule).into()
}

impl FromRequest for IdempotencyKey {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::read(request))
    }
}

fn key_in(headers: &HeaderMap) -> Result<Option<&str>, Violations> {
    let mut values = headers.get_all("idempotency-key");
    let (Some(value), another) = (values.next(), values.next()) else {
        return Ok(None);
    };
    let is_visible = |key: &&str| {
        (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match value.to_str().ok().filter(is_visible) {
        Some(key) if another.is_none() => Ok(Some(key)),
        _ => {
            let rule = format!("must be one header of 1 to {MAX_KEY} visible ASCII characters");
            Err(Violations::one(HEADER, rule))
        }
    }
}

/// For a request that is refused before the store makes anything.
pub(crate) async fn give_back(service: &AppState, claim: Option<Claim>) -> Result<(), ApiError> {
    match claim {
        Some(claim) => Ok(service.api.store.give_back(claim).await?),
        None => Ok(()),
    }
}

/// What the store needs to make something now, once where there is a claim. `answer` says how the
/// answer is made of it; None where it is refused.
pub(crate) fn making<T: 'static>(
    claim: Option<Claim>,
    now: Timestamp,
    answer: impl FnOnce(&T) -> Option<KeptAnswer> + Send + 'static,
) -> Making<T> {
    let once = claim.map(|claim| Once {
        claim,
        answer: Box::new(move |made| serde_json::to_string(&answer(made)?).ok()),
    });
    Making { now, once }
}

impl KeptAnswer {
    pub(crate) fn new(status: StatusCode, body: &impl Serialize) -> Self {
        Self {
            status: status.as_u16(),
            headers: Vec::new(),
            body: serde_json::to_string(body).unwrap_or_default(),
        }
    }

    pub(crate) fn with(mut self, name: impl ToString, value: impl ToString) -> Self {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    fn read(kept: &str) -> Result<Self, ApiError> {
        serde_json::from_str(kept).map_err(|why| ApiError::Internal(why.to_string()))
    }
}

impl From<KeptAnswer> for HttpResponse {
    fn from(kept: KeptAnswer) -> Self {
        let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
        let mut response = HttpResponse::build(status);
        for header in kept.headers {
            response.insert_header(header);
        }
        response.content_type("application/json").body(kept.body)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_key_is_one_header_of_1_to_255_visible_characters() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                let name = HeaderName::from_static("idempotency-key");
                headers.append(name, HeaderValue::from_str(value).unwrap());
            }
            key_in(&headers).map(|key| key.map(str::to_owned))
        };
        let longest = "k".repeat(MAX_KEY);
        assert_eq!(read(&[]), Ok(None));
        for good in ["k", "\"8e03978e\"", &longest] {
            assert_eq!(read(&[good]), Ok(Some(good.to_owned())));
        }
        let long = "k".repeat(MAX_KEY + 1);
        for bad in [&[""][..], &["a b"], &[&long], &["a", "a"]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
