//! Which path answers what. A path is registered with [`Route::needs`] or [`Route::open`]; there
//! is no third way, so none is open by oversight. A call refuses every query parameter, but for those of
//! [`Route::get_with_query`], whose handlers read a [`Query`](crate::extract::query::Query) to its end.

pub(crate) mod deliveries;
pub(crate) mod docs;
pub(crate) mod event_details;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod page;
pub(crate) mod replays;
pub(crate) mod response_size;
pub(crate) mod retry;
pub(crate) mod secrets;
pub(crate) mod test_delivery;
pub(crate) mod webhook_stream;
pub(crate) mod webhooks;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::guard;
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, FromRequest, Handler, HttpResponse, Resource, Responder, web};
use futures::future::LocalBoxFuture;
use hookline_core::access::Scope;

use crate::error::ApiError;
use crate::middleware::{auth, deadline, no_query};
use crate::state::AppState;

/// Registers every route, under `/v1` and without a prefix.
pub(crate) fn configure(service: &AppState, config: &mut web::ServiceConfig) {
    config.service(web::scope("/v1").configure(|config| register(service, config)));
    register(service, config);
    Route::at("/", service).get(docs::home).open(config);
}

fn register(service: &AppState, config: &mut web::ServiceConfig) {
    let at = |path| Route::at(path, service);
    at("/webhooks")
        .get_with_query(webhooks::list)
        .post(webhooks::create)
        .needs(Scope::Write, config);
    at("/webhooks/logs/all")
        .get_with_query(logs::of_organization)
        .needs(Scope::Write, config);
    at("/webhooks/{id}")
        .get(webhooks::show)
        .patch(webhooks::change)
        .delete(webhooks::delete)
        .needs(Scope::Write, config);
    at("/webhooks/{id}/logs")
        .get_with_query(logs::of_subscription)
        .needs(Scope::Write, config);
    at("/webhooks/{id}/deliveries")
        .get_with_query(deliveries::of_subscription)
        .needs(Scope::Write, config);
    at("/deliveries/{id}")
        .get_with_query(deliveries::show)
        .needs(Scope::Write, config);
    at("/deliveries/{id}/retry")
        .post(retry::start)
        .needs(Scope::Write, config);
    at("/webhooks/{id}/replay")
        .post(replays::start)
        .needs(Scope::Write, config);
    at("/replays/{id}")
        .get(replays::show)
        .delete(replays::cancel)
        .needs(Scope::Write, config);
    at("/webhooks/{id}/test")
        .post(test_delivery::send)
        .needs(Scope::Write, config);
    at("/webhooks/{id}/secret/rotate")
        .post(secrets::rotate)
        .needs(Scope::Write, config);
    at("/events")
        .post(events::publish)
        .needs(Scope::Publish, config);
    at("/events/{event_id}")
        .get_with_query(event_details::show)
        .needs(Scope::Publish, config);
    at("/healthz").get(health::alive).open(config);
    at("/readyz").get(health::ready).open(config);
    at("/openapi.json").get(docs::openapi).open(config);
    at("/docs").get(docs::page).open(config);
}

/// The answer for a path that is not registered.
pub(crate) async fn nowhere() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NoSuchPath)
}

type Answered = Result<ServiceResponse, Error>;

/// A path and what it answers.
struct Route {
    resource: Resource,
    allow: Vec<&'static str>,
    service: AppState,
}

impl Route {
    fn at(path: &str, service: &AppState) -> Self {
        Self {
            resource: web::resource(path),
            allow: Vec::new(),
            service: service.clone(),
        }
    }

    /// For a handler that reads its query, and refuses the parameters that it does not know.
    fn get_with_query<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.reading(web::route().to(handler))
    }

    fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.reading(web::route().to(handler).wrap(from_fn(no_query::refuse)))
    }

    /// Where there is a GET there is a HEAD (RFC 9110, 9.1); the server leaves its body out.
    fn reading(mut self, route: actix_web::Route) -> Self {
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
        self.answering("POST", web::post().to(handler))
    }

    fn patch<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.answering("PATCH", web::patch().to(handler))
    }

    fn delete<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.answering("DELETE", web::delete().to(handler))
    }

    fn answering(mut self, method: &'static str, route: actix_web::Route) -> Self {
        self.allow.push(method);
        let route = route.wrap(from_fn(no_query::refuse));
        self.resource = self.resource.route(route);
        self
    }

    /// Registers it for keys that have the scope `changing`; to read, [`Scope::Read`] is enough.
    fn needs(self, changing: Scope, config: &mut web::ServiceConfig) {
        let service = self.service.clone();
        let within = self.within();
        let enter = move |request: ServiceRequest, next: Next<BoxBody>| {
            auth::enter(service.clone(), changing, request, next)
        };
        config.service(self.complete().wrap(from_fn(enter)).wrap(from_fn(within)));
    }

    /// Registers it for every caller.
    fn open(self, config: &mut web::ServiceConfig) {
        let within = self.within();
        config.service(self.complete().wrap(from_fn(within)));
    }

    fn within(
        &self,
    ) -> impl Fn(ServiceRequest, Next<BoxBody>) -> LocalBoxFuture<'static, Answered> + 'static {
        let deadline = self.service.api.settings.request_deadline;
        move |request, next| Box::pin(deadline::within(deadline, request, next))
    }

    fn complete(self) -> Resource {
        let allow = self.allow.join(", ");
        self.resource.default_service(web::to(move || {
            let refusal = ApiError::MethodNotAllowed(allow.clone());
            async move { Err::<HttpResponse, ApiError>(refusal) }
        }))
    }
}
