//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a repeated request creates nothing and gets the response
//! of the first request, for 24 hours.
//!
//! A key is bound to the API key, the organization, the method and the path. The first request claims the key's row in
//! the store. The transaction that creates something also stores the response there. A rejected request releases the
//! claim. The store seals responses, because some contain a secret.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse, ResponseError as _};
use hookline_core::timestamp::Timestamp;
use hookline_core::violations::Violations;
use hookline_store::{
    AnswerOnce, ClaimResult, Creation, IdempotentRequest, RequestClaim, RequestDigest,
    RequestDigests,
};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::extract::caller::{Caller, bearer};
use crate::state::AppState;

/// Characters of a key.
const MAX_KEY: usize = 255;

const HEADER: &str = "Idempotency-Key";

/// The key of a request, which may have none.
pub(crate) struct IdempotencyKey(Option<Keyed>);

struct Keyed {
    digests: RequestDigests,
    id: RequestDigest,
}

/// Whether a request is the first with its key. A request without a key always is.
enum Idempotency {
    First(Option<RequestClaim>),
    Repeat(StoredResponse),
}

/// A response as the store keeps it: at most some 50 KiB, for a subscription.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredResponse {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl IdempotencyKey {
    /// Runs the handler of a request once. A repeat gets the response of the first request, and the handler does not run. It
    /// gives the claim to the store, which creates something and stores the response in one transaction. A rejected request
    /// releases its claim. A request that fails with 5xx may have had an effect: its claim ends with the request deadline.
    pub(crate) async fn once(
        &self,
        state: &AppState,
        body: &[u8],
        handler: impl AsyncFnOnce(Option<RequestClaim>) -> Result<HttpResponse, ApiError>,
    ) -> Result<HttpResponse, ApiError> {
        let claim = match self.begin(state, body).await? {
            Idempotency::First(claim) => claim,
            Idempotency::Repeat(stored) => return Ok(stored.into()),
        };
        let response = handler(claim).await;
        if response
            .as_ref()
            .is_err_and(|rejected| rejected.status_code().is_client_error())
        {
            release(state, claim).await?;
        }
        response
    }

    /// Claims the key for a request with this body.
    async fn begin(&self, state: &AppState, body: &[u8]) -> Result<Idempotency, ApiError> {
        let Some(keyed) = &self.0 else {
            return Ok(Idempotency::First(None));
        };
        let now = hookline_clock::now();
        let until = now.after(state.api.config.request_deadline);
        let claimed = state.api.store.claim(keyed.request(body, until), now);
        match claimed.await? {
            ClaimResult::First(claim) => Ok(Idempotency::First(Some(claim))),
            ClaimResult::Repeat(stored) => Ok(Idempotency::Repeat(StoredResponse::read(&stored)?)),
            ClaimResult::Running => Err(ApiError::Conflict(
                "the first request with this Idempotency-Key is still running; try again shortly",
            )),
            ClaimResult::OtherBody => Err(other_body()),
            ClaimResult::Unreadable(why) => {
                tracing::warn!(error = %why, "cannot decrypt the stored response of an Idempotency-Key");
                Err(ApiError::Conflict(
                    "the first request with this Idempotency-Key succeeded, and its response can no longer be shown",
                ))
            }
        }
    }

    /// Checks the key of a request that may run again, because it creates the same things again.
    pub(crate) async fn check(&self, state: &AppState, body: &[u8]) -> Result<(), ApiError> {
        let Some(keyed) = &self.0 else {
            return Ok(());
        };
        let now = hookline_clock::now();
        let claimed = state.api.store.claim(keyed.request(body, now), now);
        match claimed.await? {
            ClaimResult::OtherBody => Err(other_body()),
            ClaimResult::First(_)
            | ClaimResult::Running
            | ClaimResult::Repeat(_)
            | ClaimResult::Unreadable(_) => Ok(()),
        }
    }

    /// The digest of the request: different for each request, the same for a repeat.
    pub(crate) fn digest(&self) -> Option<&RequestDigest> {
        self.0.as_ref().map(|keyed| &keyed.id)
    }

    fn read(request: &HttpRequest) -> Result<Self, ApiError> {
        let Some(key) = key_in(request.headers())? else {
            return Ok(Self(None));
        };
        let extensions = request.extensions();
        let caller = extensions.get::<Caller>().zip(bearer(request.headers()));
        let Some((caller, api_key)) = caller else {
            let why = "a route without authentication reads an idempotency key";
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
    fn request(&self, body: &[u8], claimed_until: Timestamp) -> IdempotentRequest {
        IdempotentRequest {
            id: self.id,
            fingerprint: self.digests.digest(&[body]),
            claimed_until,
        }
    }
}

fn other_body() -> ApiError {
    let rule = "was used for a request with another body; a key is for one request, for 24 hours";
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

/// Releases the claim of a request that is rejected.
async fn release(state: &AppState, claim: Option<RequestClaim>) -> Result<(), ApiError> {
    match claim {
        Some(claim) => Ok(state.api.store.give_back(claim).await?),
        None => Ok(()),
    }
}

/// The instruction to the store to create something now, and only once where there is a claim. `response` makes the
/// response from the result; None where the request is rejected.
pub(crate) fn create_once<T: 'static>(
    claim: Option<RequestClaim>,
    now: Timestamp,
    response: impl FnOnce(&T) -> Option<StoredResponse> + Send + 'static,
) -> Creation<T> {
    let once = claim.map(|claim| AnswerOnce {
        claim,
        answer: Box::new(move |made| serde_json::to_string(&response(made)?).ok()),
    });
    Creation { now, once }
}

impl StoredResponse {
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

    fn read(stored: &str) -> Result<Self, ApiError> {
        serde_json::from_str(stored).map_err(|why| ApiError::Internal(why.to_string()))
    }
}

impl From<StoredResponse> for HttpResponse {
    fn from(stored: StoredResponse) -> Self {
        let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
        let mut response = HttpResponse::build(status);
        for header in stored.headers {
            response.insert_header(header);
        }
        response.content_type("application/json").body(stored.body)
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
