//! The routes. A path is registered with [`Route::authenticated`] or [`Route::public`] and in no other way, so no path is
//! public by mistake. Every path answers OPTIONS with its methods, without a key. A call rejects all query parameters, except on routes of [`Route::get_with_query`]: their handlers
//! parse a [`Query`](crate::extract::query::Query).

mod body_text;
pub(crate) mod cancel;
pub(crate) mod deliveries;
pub(crate) mod docs;
mod event_batch;
pub(crate) mod event_details;
pub(crate) mod event_list;
pub(crate) mod event_types;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod http_log_json;
pub(crate) mod logs;
mod page;
pub(crate) mod replay_list;
pub(crate) mod replays;
mod response_size;
pub(crate) mod retry;
pub(crate) mod secrets;
pub(crate) mod stats;
mod stats_request;
pub(crate) mod stream;
mod subscription_json;
pub(crate) mod test_delivery;
mod webhook_stream;
pub(crate) mod webhooks;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::guard;
use actix_web::http::{Method, header};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, FromRequest, Handler, HttpResponse, Resource, Responder, web};
use futures::future::LocalBoxFuture;
use hookline_core::access::Scope;

use crate::error::ApiError;
use crate::middleware::{auth, deadline, no_query};
use crate::state::AppState;

/// Registers every route, under `/v1` and without a prefix.
pub(crate) fn configure(state: &AppState, config: &mut web::ServiceConfig) {
    config.service(web::scope("/v1").configure(|config| register(state, config)));
    register(state, config);
    Route::at("/", state).get(docs::home).public(config);
}

fn register(state: &AppState, config: &mut web::ServiceConfig) {
    let at = |path| Route::at(path, state);
    at("/webhooks")
        .get_with_query(webhooks::list)
        .post(webhooks::create)
        .authenticated(Scope::Write, config);
    at("/webhooks/logs/all")
        .get_with_query(logs::of_organization)
        .authenticated(Scope::Write, config);
    at("/webhooks/{id}")
        .get(webhooks::show)
        .patch(webhooks::change)
        .delete(webhooks::delete)
        .authenticated(Scope::Write, config);
    at("/webhooks/{id}/logs")
        .get_with_query(logs::of_subscription)
        .authenticated(Scope::Write, config);
    at("/webhooks/{id}/deliveries")
        .get_with_query(deliveries::of_subscription)
        .authenticated(Scope::Write, config);
    at("/deliveries")
        .get_with_query(deliveries::of_organization)
        .authenticated(Scope::Write, config);
    at("/deliveries/{id}")
        .get_with_query(deliveries::show)
        .authenticated(Scope::Write, config);
    at("/deliveries/{id}/retry")
        .post(retry::start)
        .authenticated(Scope::Write, config);
    at("/deliveries/{id}/cancel")
        .post(cancel::cancel)
        .authenticated(Scope::Write, config);
    at("/webhooks/{id}/replay")
        .post(replays::of_subscription)
        .authenticated(Scope::Write, config);
    at("/webhooks/{id}/replay-missing")
        .post(replays::of_missing)
        .authenticated(Scope::Write, config);
    at("/replays")
        .get_with_query(replay_list::list)
        .post(replays::of_organization)
        .authenticated(Scope::Write, config);
    at("/replays/{id}")
        .get(replay_list::show)
        .delete(replay_list::cancel)
        .authenticated(Scope::Write, config);
    at("/webhooks/{id}/test")
        .post(test_delivery::send)
        .authenticated(Scope::Write, config);
    at("/webhooks/{id}/secret/rotate")
        .post(secrets::rotate)
        .authenticated(Scope::Write, config);
    at("/stats")
        .get_with_query(stats::show)
        .authenticated(Scope::Write, config);
    at("/stream")
        .get_with_query(stream::follow)
        .authenticated(Scope::Write, config);
    at("/events")
        .get_with_query(event_list::list)
        .post(events::publish)
        .authenticated(Scope::Publish, config);
    at("/events/{event_id}")
        .get_with_query(event_details::show)
        .authenticated(Scope::Publish, config);
    at("/event-types")
        .get(event_types::list)
        .authenticated(Scope::Write, config);
    at("/healthz").get(health::alive).public(config);
    at("/readyz").get(health::ready).public(config);
    at("/openapi.json").get(docs::openapi).public(config);
    at("/docs").get(docs::page).public(config);
}

/// The response for an unknown path.
pub(crate) async fn not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NoSuchPath)
}

type Answered = Result<ServiceResponse, Error>;

/// The methods of a path, as in the header `Allow`.
struct Allow(String);

/// A path and its handlers.
struct Route {
    resource: Resource,
    allow: Vec<&'static str>,
    state: AppState,
}

impl Route {
    fn at(path: &str, state: &AppState) -> Self {
        Self {
            resource: web::resource(path),
            allow: Vec::new(),
            state: state.clone(),
        }
    }

    /// For a handler that parses the query and rejects unknown parameters.
    fn get_with_query<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.read(web::route().to(handler))
    }

    fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.read(web::route().to(handler).wrap(from_fn(no_query::reject)))
    }

    /// GET implies HEAD (RFC 9110, 9.1); the server omits the body.
    fn read(mut self, route: actix_web::Route) -> Self {
        self.allow.extend(["GET", "HEAD"]);
        let get_or_head = guard::Any(guard::Get()).or(guard::Head());
        self.resource = self.resource.route(route.guard(get_or_head));
        self
    }

    fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.write("POST", web::post().to(handler))
    }

    fn patch<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.write("PATCH", web::patch().to(handler))
    }

    fn delete<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.write("DELETE", web::delete().to(handler))
    }

    fn write(mut self, method: &'static str, route: actix_web::Route) -> Self {
        self.allow.push(method);
        let route = route.wrap(from_fn(no_query::reject));
        self.resource = self.resource.route(route);
        self
    }

    /// Registers it for keys with the scope `write_scope`, or [`Scope::Read`] for GET and HEAD.
    fn authenticated(self, write_scope: Scope, config: &mut web::ServiceConfig) {
        let state = self.state.clone();
        let within = self.within();
        let authenticate = move |request: ServiceRequest, next: Next<BoxBody>| {
            auth::authenticate(state.clone(), write_scope, request, next)
        };
        config.service(
            self.complete()
                .wrap(from_fn(authenticate))
                .wrap(from_fn(within)),
        );
    }

    /// Registers it for requests without a key, too.
    fn public(self, config: &mut web::ServiceConfig) {
        let within = self.within();
        config.service(self.complete().wrap(from_fn(within)));
    }

    fn within(
        &self,
    ) -> impl Fn(ServiceRequest, Next<BoxBody>) -> LocalBoxFuture<'static, Answered> + 'static {
        let deadline = self.state.api.config.request_deadline;
        move |request, next| Box::pin(deadline::within(deadline, request, next))
    }

    fn complete(mut self) -> Resource {
        self.allow.push("OPTIONS");
        let allow = self.allow.join(", ");
        let options = web::method(Method::OPTIONS).to(|allow: web::Data<Allow>| async move {
            HttpResponse::NoContent()
                .insert_header((header::ALLOW, allow.0.clone()))
                .finish()
        });
        let refuse = web::to(|allow: web::Data<Allow>| async move {
            Err::<HttpResponse, ApiError>(ApiError::MethodNotAllowed(allow.0.clone()))
        });
        self.resource
            .app_data(web::Data::new(Allow(allow)))
            .route(options)
            .default_service(refuse)
    }
}
