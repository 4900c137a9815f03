//! Subscriptions. The public API calls them webhooks.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::cursor::{Cursor, CursorKind};
use hookline_core::subscription::{NewSubscription, Subscription, SubscriptionPatch};
use hookline_core::violations::Violations;
use hookline_store::{CreateResult, PageStart, SubscriptionWindow};

use crate::error::ApiError;
use crate::extract::body::{Body, MAX_BODY};
use crate::extract::caller::Caller;
use crate::extract::conditions::{self, Conditions};
use crate::extract::idempotency::{Idempotency, IdempotencyKey, StoredResponse, create_once};
use crate::extract::path_id::PathSubscription;
use crate::extract::query::Query;
use crate::routes::page::{DEFAULT_LIMIT, Page, cut};
use crate::routes::response_size::json;
use crate::routes::subscription_json::{
    ListedSubscription, NewSubscriptionBody, SubscriptionPatchBody, SubscriptionResponse,
    Subscriptions,
};
use crate::routes::webhook_stream::{self, BATCH_SIZE};
use crate::state::AppState;

/// Create a subscription.
///
/// It receives events that are published after the response. 422 beyond the limit of subscriptions of an organization
/// (by default 1,000).
#[utoipa::path(
    post, path = "/webhooks", tag = "Subscriptions", operation_id = "createWebhook",
    params(crate::schemas::parameters::IdempotencyParameter),
    request_body(content = NewSubscriptionBody, content_type = "application/json"),
    responses(
        (status = 201, description = "The subscription", body = SubscriptionResponse,
            headers(("Location" = String, description = "The path of the subscription"),
                ("ETag" = String, description = "The revision, for `If-Match`"))),
        (status = 409, description = "The first request with this Idempotency-Key is still running"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn create(
    caller: Caller,
    state: web::Data<AppState>,
    key: IdempotencyKey,
    request: HttpRequest,
    body: Body<MAX_BODY>,
) -> Result<HttpResponse, ApiError> {
    let api = &state.api;
    let new = body.parse(|value| NewSubscription::from_json(value, &api.rules))?;
    let claim = match key.begin(&state, body.bytes()).await? {
        Idempotency::First(claim) => claim,
        Idempotency::Repeat(stored) => return Ok(stored.into()),
    };
    let limit = api.config.max_subscriptions;
    let path = request.path().to_owned();
    let response = move |made: &CreateResult| match made {
        CreateResult::Subscription(subscription) => Some(created(&path, subscription)),
        CreateResult::LimitReached => None,
    };
    let made = api.store.create_subscription(
        caller.organization,
        new,
        limit,
        create_once(claim, hookline_clock::now(), response.clone()),
    );
    let response = response(&made.await?).ok_or_else(|| {
        Violations::one(
            "",
            format_args!("an organization has at most {limit} subscriptions"),
        )
    })?;
    Ok(response.into())
}

fn created(path: &str, subscription: &Subscription) -> StoredResponse {
    let location = format!("{path}/{}", subscription.id);
    StoredResponse::new(
        StatusCode::CREATED,
        &SubscriptionResponse::from(subscription),
    )
    .with(header::LOCATION, location)
    .with(header::ETAG, conditions::etag_of(subscription))
}

/// List the subscriptions, newest first.
#[utoipa::path(
    get, path = "/webhooks", tag = "Subscriptions", operation_id = "listWebhooks",
    params(crate::schemas::parameters::SubscriptionParameters),
    responses((status = 200, description = "A page of subscriptions", body = Subscriptions)),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn list(
    caller: Caller,
    state: web::Data<AppState>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let list = CursorKind::Subscriptions.of(&caller.organization, "");
    let mut query = Query::read(request.query_string());
    let limit = query.limit("limit");
    let page = Page::with_limit(limit.unwrap_or(DEFAULT_LIMIT), &mut query, list);
    query.finish()?;
    let before = match page.start {
        PageStart::Offset(_) => None,
        PageStart::Cursor(cursor) => Some(cursor.subscription()),
    };
    let all = limit.is_none() && before.is_none();
    let window = SubscriptionWindow {
        limit: if all { BATCH_SIZE } else { page.to_read() },
        offset: page.offset(),
        before,
    };
    let store = &state.api.store;
    let rows = store.subscriptions(caller.organization.clone(), window);
    let mut rows = rows.await?;
    if all && rows.len() >= BATCH_SIZE as usize {
        return Ok(webhook_stream::respond(&state, caller, rows, page.offset()));
    }
    let total = store.subscription_count(caller.organization).await?;
    let cursor = |row: &Subscription| Cursor::of_subscription(row.id);
    let (webhooks, next_cursor) = if all {
        let rows = rows.iter().map(ListedSubscription::from);
        (rows.map(|row| json(&row)).collect(), None)
    } else {
        let last = cut(&mut rows, page.limit, cursor).map(|last| list.text(last));
        let rows = rows.iter().map(|row| (cursor(row), row.into()));
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
/// Every change gives it a new `ETag`, also a change of the secret or of a header's value.
#[utoipa::path(
    get, path = "/webhooks/{id}", tag = "Subscriptions", operation_id = "getWebhook",
    params(
        ("id" = i64, Path, description = "The subscription"),
        ("If-Match" = Option<String>, Header, description = "Entity tags; 412 if the subscription matches none of them"),
        ("If-None-Match" = Option<String>, Header, description = "Entity tags; 304 if the subscription matches one of them"),
    ),
    responses(
        (status = 200, description = "The subscription", body = SubscriptionResponse,
            headers(("ETag" = String, description = "The revision"))),
        (status = 304, description = "It matches If-None-Match"),
        (status = 412, description = "It does not match If-Match"),
    ),
    security(("api_key" = ["read"]))
)]
pub(crate) async fn show(
    caller: Caller,
    state: web::Data<AppState>,
    PathSubscription(id): PathSubscription,
    conditions: Conditions,
) -> Result<HttpResponse, ApiError> {
    let found = state.api.store.subscription(caller.organization, id);
    let subscription = found.await?.ok_or(ApiError::NotFound)?;
    if !conditions.allow(&subscription) {
        return Err(ApiError::PreconditionFailed);
    }
    let tag = (header::ETAG, conditions::etag_of(&subscription));
    if conditions.is_known(&subscription) {
        return Ok(HttpResponse::NotModified().insert_header(tag).finish());
    }
    let body = SubscriptionResponse::from(&subscription);
    Ok(HttpResponse::Ok().insert_header(tag).json(body))
}

/// Change a subscription.
///
/// An absent field does not change. `secret: null` removes the secret, `headers` replaces all headers, and
/// `is_active: true` clears `disabled_reason`. With `If-Match`, 412 if another change came first.
#[utoipa::path(
    patch, path = "/webhooks/{id}", tag = "Subscriptions", operation_id = "updateWebhook",
    params(
        ("id" = i64, Path, description = "The subscription"),
        ("If-Match" = Option<String>, Header, description = "Entity tags; 412 if the subscription matches none of them"),
    ),
    request_body(content = SubscriptionPatchBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The changed subscription", body = SubscriptionResponse,
            headers(("ETag" = String, description = "The revision"))),
        (status = 412, description = "It does not match If-Match"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn change(
    caller: Caller,
    state: web::Data<AppState>,
    PathSubscription(id): PathSubscription,
    conditions: Conditions,
    body: Body<MAX_BODY>,
) -> Result<HttpResponse, ApiError> {
    let api = &state.api;
    let patch = body.parse(|value| SubscriptionPatch::from_json(value, &api.rules))?;
    let changed = api
        .store
        .change_subscription(
            caller.organization,
            conditions.on(id),
            patch,
            hookline_clock::now(),
        )
        .await?
        .ok_or(ApiError::NotFound)?;
    Ok(HttpResponse::Ok()
        .insert_header((header::ETAG, conditions::etag_of(&changed)))
        .json(SubscriptionResponse::from(&changed)))
}

/// Delete a subscription.
///
/// After the response, Hookline sends nothing more for it, except that a running request may finish. Its logs stay under
/// `/webhooks/logs/all`.
#[utoipa::path(
    delete, path = "/webhooks/{id}", tag = "Subscriptions", operation_id = "deleteWebhook",
    params(
        ("id" = i64, Path, description = "The subscription"),
        ("If-Match" = Option<String>, Header, description = "Entity tags; 412 if the subscription matches none of them"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 412, description = "It does not match If-Match"),
    ),
    security(("api_key" = ["write"]))
)]
pub(crate) async fn delete(
    caller: Caller,
    state: web::Data<AppState>,
    PathSubscription(id): PathSubscription,
    conditions: Conditions,
) -> Result<HttpResponse, ApiError> {
    let store = &state.api.store;
    if store
        .delete_subscription(
            caller.organization,
            conditions.on(id),
            hookline_clock::now(),
        )
        .await?
    {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(ApiError::NotFound)
    }
}
