//! Subscriptions. The public API calls them webhooks.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use hookline_core::cursor::{Cursor, CursorKind};
use hookline_core::event_type::EventType;
use hookline_core::secret::Secret;
use hookline_core::subscription::{
    MAX_NAME, NewSecret, NewSubscription, Subscription, SubscriptionPatch,
};
use hookline_core::target::MAX_URL;
use hookline_core::violations::Violations;
use hookline_store::{CreateResult, PageStart, SubscriptionFilter, SubscriptionWindow, Substring};

use crate::error::ApiError;
use crate::extract::body::{Body, MAX_BODY};
use crate::extract::caller::Caller;
use crate::extract::conditions::{self, Conditions};
use crate::extract::idempotency::{IdempotencyKey, StoredResponse, create_once};
use crate::extract::path_id::PathSubscription;
use crate::extract::query::Query;
use crate::routes::page::{DEFAULT_LIMIT, Page, cut};
use crate::routes::response_size::json;
use crate::routes::subscription_json::{
    CreatedSubscription, ListedSubscription, SubscriptionResponse, Subscriptions,
};
use crate::routes::webhook_stream::{self, BATCH_SIZE, Selection};
use crate::schemas::subscription::{NewSubscriptionBody, SubscriptionPatchBody};
use crate::state::AppState;

/// Create a subscription.
///
/// It receives events that are published after the response. With `"secret": {"generate": true}`, Hookline generates a secret
/// of 32 random bytes and shows it only in this response, and in a repeat with the same `Idempotency-Key`. 422 beyond the limit
/// of subscriptions of an organization (by default 1,000).
#[utoipa::path(
    post, path = "/webhooks", tag = "Subscriptions", operation_id = "createWebhook",
    params(crate::schemas::parameters::IdempotencyParameter),
    request_body(content = NewSubscriptionBody, content_type = "application/json"),
    responses(
        (status = 201, description = "The subscription", body = CreatedSubscription,
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
    let random = rand::random();
    let new = body.parse(|value| NewSubscription::from_json(value, &api.rules, random))?;
    key.once(&state, body.bytes(), async |claim| {
        let limit = api.config.max_subscriptions;
        let path = request.path().to_owned();
        let secret = new.secret.as_ref().and_then(NewSecret::shown).cloned();
        let response = move |made: &CreateResult| match made {
            CreateResult::Subscription(made) => Some(created(&path, made, secret.as_ref())),
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
    })
    .await
}

fn created(path: &str, subscription: &Subscription, secret: Option<&Secret>) -> StoredResponse {
    let location = format!("{path}/{}", subscription.id);
    let body = CreatedSubscription::new(subscription, secret);
    StoredResponse::new(StatusCode::CREATED, &body)
        .with(header::LOCATION, location)
        .with(header::ETAG, conditions::etag_of(subscription))
}

/// List the subscriptions, newest first.
///
/// Filters can be combined. A page with filters may have fewer rows than `limit` and a `next_cursor`, in an organization with
/// more than 50,000 subscriptions.
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
    let filter = filter(&mut query);
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
    let found = store.subscriptions(caller.organization.clone(), &filter, window);
    let mut found = found.await?;
    if all && (found.rows.len() >= BATCH_SIZE as usize || found.searched.is_some()) {
        let selection = Selection {
            filter,
            offset: page.offset(),
        };
        return Ok(webhook_stream::respond(&state, caller, selection, found));
    }
    let total = store.count_subscriptions(caller.organization, &filter);
    let total = total.await?;
    let cursor = |row: &Subscription| Cursor::of_subscription(row.id);
    let (webhooks, next_cursor) = if all {
        let rows = found.rows.iter().map(ListedSubscription::from);
        (rows.map(|row| json(&row)).collect(), None)
    } else {
        let last = cut(&mut found.rows, page.limit, cursor);
        let last = last.or(found.searched.map(Cursor::of_subscription));
        let rows = found.rows.iter().map(|row| (cursor(row), row.into()));
        page.show::<ListedSubscription>(rows, last.map(|last| list.text(last)))
    };
    let shown = found.skipped + webhooks.len() as u64;
    let total = if all { total.or(Some(shown)) } else { total };
    Ok(HttpResponse::Ok().json(Subscriptions {
        webhooks,
        total,
        limit: match total {
            Some(total) if all => total,
            _ => page.limit.into(),
        },
        offset: page.offset(),
        next_cursor,
    }))
}

fn filter(query: &mut Query) -> SubscriptionFilter {
    let part = |most: usize| {
        move |text: &str| match text.chars().count() {
            count if (1..=most).contains(&count) => Ok(Substring::new(text)),
            _ => Err(format!("must have 1 to {most} characters")),
        }
    };
    SubscriptionFilter {
        is_active: query.take("is_active", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false"),
        }),
        event_type: query.take("event_type", EventType::parse),
        name: query.take("name", part(MAX_NAME)),
        url: query.take("url", part(MAX_URL)),
    }
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
/// An absent field does not change. `secret: null` removes the secret, `headers` replaces all headers, `metadata` all pairs, and
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
