//! Subscriptions: what a customer registers. The paths say `webhooks`, as the public API does.

use std::ops::Not;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::cursor::{Cursor, Rows};
use hookline_core::subscription::{NewSubscription, Status, Subscription, SubscriptionPatch};
use hookline_core::timestamp::Timestamp;
use hookline_core::violations::Violations;
use hookline_store::{Created, PageStart, Window};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::extract::body::{Body, SUBSCRIPTION};
use crate::extract::caller::Caller;
use crate::extract::conditions::{self, Conditions};
use crate::extract::idempotency::{IdempotencyKey, KeptAnswer, Turn, making};
use crate::extract::path_id::PathId;
use crate::extract::query::Query;
use crate::routes::page::{DEFAULT_LIMIT, Page, cut};
use crate::routes::response_size::{Shorten, json};
use crate::routes::webhook_stream::{self, AT_ONCE};
use crate::state::AppState;

/// A subscription as its owner sees it: neither its secret nor a header's value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscription)]
pub(crate) struct SubscriptionAnswer {
    /// Never used again after a deletion.
    #[schema(example = 7)]
    id: i64,
    /// What its owner calls it.
    #[schema(example = "Billing")]
    name: String,
    /// Where its events go.
    #[schema(example = "https://example.com/hooks")]
    url: String,
    /// Which events it wants.
    #[schema(example = json!(["workflow.completed", "workflow.failed"]))]
    events: Vec<&'static str>,
    /// Whether it gets anything.
    is_active: bool,
    /// Since when there is one.
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    created_at: String,
    /// When it was changed last.
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    updated_at: String,
    /// Whether its requests are signed.
    has_secret: bool,
    /// Which headers its requests bear besides.
    #[schema(example = json!(["X-Team"]))]
    header_names: Vec<String>,
    /// Why the system switched it off: `gone`, its receiver answered 410; `failing`, it took nothing
    /// for too long.
    #[schema(required = true, example = json!(null))]
    disabled_reason: Option<&'static str>,
}

impl From<&Subscription> for SubscriptionAnswer {
    fn from(subscription: &Subscription) -> Self {
        let disabled_reason = match subscription.status {
            Status::Active => None,
            Status::Inactive(reason) => reason.map(|reason| reason.as_str()),
        };
        Self {
            id: subscription.id.0,
            name: subscription.name.as_str().to_owned(),
            url: subscription.url.as_str().to_owned(),
            events: subscription.events.iter().map(|e| e.as_str()).collect(),
            is_active: subscription.status == Status::Active,
            created_at: subscription.created_at.to_string(),
            updated_at: subscription.updated_at.to_string(),
            has_secret: subscription.has_secret,
            header_names: subscription.header_names.clone(),
            disabled_reason,
        }
    }
}

/// A subscription in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedSubscription {
    #[serde(flatten)]
    subscription: SubscriptionAnswer,
    /// True where only some of the `header_names` are shown, because the page would exceed 1 MiB; else it is absent.
    /// `GET /webhooks/{id}` has all of them.
    #[serde(skip_serializing_if = "Not::not")]
    #[schema(required = false)]
    truncated: bool,
}

impl From<&Subscription> for ListedSubscription {
    fn from(subscription: &Subscription) -> Self {
        Self {
            subscription: subscription.into(),
            truncated: false,
        }
    }
}

impl Shorten for ListedSubscription {
    fn is_short(&self) -> bool {
        self.truncated
    }

    /// A page of 100 has room for the longest names and URLs, in characters of four bytes.
    fn shorten(&mut self, bytes: usize) {
        self.truncated = true;
        let mut room = bytes;
        self.subscription.header_names.retain(|name| {
            let rest = room.checked_sub(name.len());
            room = rest.unwrap_or_default();
            rest.is_some()
        });
    }
}

/// A page of subscriptions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Subscriptions {
    /// Newest first. With a cursor there may be fewer than `limit`: a page is at most 1 MiB. Without `limit` the answer
    /// is as long as the list.
    #[schema(value_type = Vec<ListedSubscription>)]
    webhooks: Vec<Box<RawValue>>,
    /// How many there are in all.
    total: u64,
    /// The given one; without it, `total`, or 50 with a cursor.
    limit: u64,
    /// The given one; 0 with a cursor.
    offset: u64,
    /// Asks for the next page; null on the last one.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// Register a subscription.
///
/// The next event that is published after the answer finds it.
#[utoipa::path(
    post, path = "/webhooks", tag = "Subscriptions", operation_id = "createWebhook",
    params(crate::schemas::IdempotencyParameter),
    request_body(content = crate::schemas::NewSubscriptionBody, content_type = "application/json"),
    responses(
        (status = 201, description = "The subscription", body = SubscriptionAnswer,
            headers(("Location" = String, description = "Its path"),
                ("ETag" = String, description = "Its revision, for `If-Match`"))),
        (status = 409, description = "The first request with this key still runs"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn create(
    caller: Caller,
    service: web::Data<AppState>,
    key: IdempotencyKey,
    request: HttpRequest,
    body: Body<SUBSCRIPTION>,
) -> Result<HttpResponse, ApiError> {
    let api = &service.api;
    let new = body.parse(|value| NewSubscription::from_json(value, &api.rules))?;
    let claim = match key.begin(&service, body.bytes()).await? {
        Turn::First(claim) => claim,
        Turn::Repeat(kept) => return Ok(kept.into()),
    };
    let limit = api.settings.max_subscriptions;
    let path = request.path().to_owned();
    let answer = move |made: &Created| match made {
        Created::Subscription(subscription) => Some(created(&path, subscription)),
        Created::LimitReached => None,
    };
    let made = api.store.create_subscription(
        caller.organization,
        new,
        limit,
        making(claim, now(), answer.clone()),
    );
    let answer = answer(&made.await?).ok_or_else(|| {
        Violations::one(
            "",
            format_args!("an organization has at most {limit} subscriptions"),
        )
    })?;
    Ok(answer.into())
}

fn created(path: &str, subscription: &Subscription) -> KeptAnswer {
    let location = format!("{path}/{}", subscription.id);
    KeptAnswer::new(StatusCode::CREATED, &SubscriptionAnswer::from(subscription))
        .with(header::LOCATION, location)
        .with(header::ETAG, conditions::etag_of(subscription))
}

/// List the subscriptions, newest first.
#[utoipa::path(
    get, path = "/webhooks", tag = "Subscriptions", operation_id = "listWebhooks",
    params(crate::schemas::SubscriptionParameters),
    responses((status = 200, description = "A page", body = Subscriptions)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn list(
    caller: Caller,
    service: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = Rows::Subscriptions.of(&caller.organization, "");
    let mut query = Query::read(request.query_string());
    let limit = query.limit("limit");
    let page = Page::of(limit.unwrap_or(DEFAULT_LIMIT), &mut query, list);
    query.finish()?;
    let before = match page.start {
        PageStart::Offset(_) => None,
        PageStart::Cursor(cursor) => Some(cursor.subscription()),
    };
    let all = limit.is_none() && before.is_none();
    let window = Window {
        limit: if all { AT_ONCE } else { page.to_read() },
        offset: page.offset(),
        before,
    };
    let store = &service.api.store;
    let rows = store.subscriptions(caller.organization.clone(), window);
    let mut rows = rows.await?;
    if all && rows.len() >= AT_ONCE as usize {
        return Ok(webhook_stream::answer(
            &service,
            caller,
            rows,
            page.offset(),
        ));
    }
    let total = store.subscription_count(caller.organization).await?;
    let place = |row: &Subscription| Cursor::of_subscription(row.id);
    let (webhooks, next_cursor) = if all {
        let rows = rows.iter().map(ListedSubscription::from);
        (rows.map(|row| json(&row)).collect(), None)
    } else {
        let last = cut(&mut rows, page.limit, place).map(|last| list.text(last));
        let rows = rows.iter().map(|row| (place(row), row.into()));
        page.show::<ListedSubscription>(rows, last)
    };
    Ok(HttpResponse::Ok().json(Subscriptions {
        webhooks,
        total,
        limit: if all { total } else { page.limit.into() },
        offset: page.offset(),
        next_cursor,
    }))
}

/// Show a subscription.
///
/// Its `ETag` is another one after every change, also of the secret or of a header's value.
#[utoipa::path(
    get, path = "/webhooks/{id}", tag = "Subscriptions", operation_id = "getWebhook",
    params(
        ("id" = i64, Path, description = "The subscription"),
        ("If-Match" = Option<String>, Header, description = "Entity tags; 412 if it is at none of them"),
        ("If-None-Match" = Option<String>, Header, description = "Entity tags; 304 if it is at one of them"),
    ),
    responses(
        (status = 200, description = "The subscription", body = SubscriptionAnswer,
            headers(("ETag" = String, description = "Its revision"))),
        (status = 304, description = "It is as If-None-Match says"),
        (status = 412, description = "It is not as If-Match says"),
    ),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn show(
    caller: Caller,
    service: web::Data<AppState>,
    PathId(id): PathId,
    conditions: Conditions,
) -> Result<HttpResponse, ApiError> {
    let found = service.api.store.subscription(caller.organization, id);
    let subscription = found.await?.ok_or(ApiError::NotFound)?;
    if !conditions.allow(&subscription) {
        return Err(ApiError::PreconditionFailed);
    }
    let tag = (header::ETAG, conditions::etag_of(&subscription));
    if conditions.is_known(&subscription) {
        return Ok(HttpResponse::NotModified().insert_header(tag).finish());
    }
    let answer = SubscriptionAnswer::from(&subscription);
    Ok(HttpResponse::Ok().insert_header(tag).json(answer))
}

/// Change a subscription.
///
/// What is absent stays. `secret: null` removes the secret, `headers` replaces the set, and
/// `is_active: true` clears `disabled_reason`. With `If-Match`, 412 if another change came first.
#[utoipa::path(
    patch, path = "/webhooks/{id}", tag = "Subscriptions", operation_id = "updateWebhook",
    params(
        ("id" = i64, Path, description = "The subscription"),
        ("If-Match" = Option<String>, Header, description = "Entity tags; 412 if it is at none of them"),
    ),
    request_body(content = crate::schemas::SubscriptionPatchBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The subscription as it is now", body = SubscriptionAnswer,
            headers(("ETag" = String, description = "Its revision"))),
        (status = 412, description = "It is not as If-Match says"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn change(
    caller: Caller,
    service: web::Data<AppState>,
    PathId(id): PathId,
    conditions: Conditions,
    body: Body<SUBSCRIPTION>,
) -> Result<HttpResponse, ApiError> {
    let api = &service.api;
    let patch = body.parse(|value| SubscriptionPatch::from_json(value, &api.rules))?;
    let changed = api
        .store
        .change_subscription(caller.organization, conditions.on(id), patch, now())
        .await?
        .ok_or(ApiError::NotFound)?;
    Ok(HttpResponse::Ok()
        .insert_header((header::ETAG, conditions::etag_of(&changed)))
        .json(SubscriptionAnswer::from(&changed)))
}

/// Delete a subscription.
///
/// Nothing more is sent for it once this has answered, apart from a request already on its way.
/// Its logs stay under `/webhooks/logs/all`.
#[utoipa::path(
    delete, path = "/webhooks/{id}", tag = "Subscriptions", operation_id = "deleteWebhook",
    params(
        ("id" = i64, Path, description = "The subscription"),
        ("If-Match" = Option<String>, Header, description = "Entity tags; 412 if it is at none of them"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 412, description = "It is not as If-Match says"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn delete(
    caller: Caller,
    service: web::Data<AppState>,
    PathId(id): PathId,
    conditions: Conditions,
) -> Result<HttpResponse, ApiError> {
    let store = &service.api.store;
    if store
        .delete_subscription(caller.organization, conditions.on(id), now())
        .await?
    {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(ApiError::NotFound)
    }
}

fn now() -> Timestamp {
    hookline_clock::now()
}
