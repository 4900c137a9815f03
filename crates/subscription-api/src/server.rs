//! The HTTP server and the middleware around every route.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, web};
use anyhow::Context as _;
use hookline_runtime::descriptors;
use hookline_runtime::http::{self, Bounds};
use tokio_util::sync::CancellationToken;

use crate::limits::memory::MemoryBudget;
use crate::live::follow::follow;
use crate::middleware::graceful_shutdown::GracefulShutdown;
use crate::middleware::request_telemetry::{self, RequestDuration};
use crate::middleware::{cors, loop_detection, response_memory};
use crate::routes::docs::OpenApiDocument;
use crate::state::{Api, AppState};
use crate::{openapi, routes};

/// The time that slow clients have to read the last responses, after the request deadline, while the service stops.
const LAST_RESPONSES: Duration = Duration::from_secs(2);

/// The state of all workers: of handlers, and of the middleware around every route.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) state: AppState,
    response_memory: MemoryBudget,
    durations: RequestDuration,
    shutdown: GracefulShutdown,
}

impl Server {
    pub(crate) fn new(api: Api, stopping: CancellationToken) -> Self {
        Self {
            state: AppState::new(api, stopping.clone()),
            response_memory: MemoryBudget::for_responses(),
            durations: RequestDuration::default(),
            shutdown: GracefulShutdown::new(stopping),
        }
    }
}

/// Serves the API on `listener` until `shutdown`. Then it accepts no connection, and returns once active requests have
/// ended.
///
/// # Errors
/// When the listener cannot be used or the server stops by itself.
pub async fn run(
    listener: TcpListener,
    api: Api,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let config = api.config;
    let bounds = Bounds {
        workers: config.workers.max(1),
        connections: descriptors::connections("api.max_connections", config.max_connections),
        timeouts: config.timeouts,
        last_answers: config.request_deadline + LAST_RESPONSES,
    };
    let server = Server::new(api, shutdown.clone());
    let requests = server.shutdown.clone();
    let (live, store) = (server.state.live.clone(), server.state.api.store.clone());
    let serving = http::serve(listener, bounds, shutdown, move || app(&server))
        .context("cannot serve the API on its listener")?;
    tokio::select! {
        ended = serving => ended.context("the API server stopped"),
        () = requests.drained() => Ok(()),
        never = follow(live, store) => match never {},
    }
}

/// The application of one worker.
pub(crate) fn app(
    server: &Server,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    let Server {
        state,
        response_memory: memory,
        durations,
        shutdown,
    } = server.clone();
    let hosts = state.api.config.hosts;
    let origins = state.api.cors.clone();
    let routed = state.clone();
    App::new()
        .app_data(web::Data::new(state))
        .app_data(web::Data::new(OpenApiDocument(openapi::document())))
        .configure(move |config| routes::configure(&routed, config))
        .default_service(web::to(routes::not_found))
        .wrap(from_fn(loop_detection::reject))
        .wrap(from_fn(
            move |request: ServiceRequest, next: Next<BoxBody>| {
                cors::allow(origins.clone(), request, next)
            },
        ))
        .wrap(from_fn(move |request, next| hosts.check(request, next)))
        .wrap(from_fn(
            move |request: ServiceRequest, next: Next<BoxBody>| {
                response_memory::limit(memory.clone(), request, next)
            },
        ))
        .wrap(from_fn(
            move |request: ServiceRequest, next: Next<BoxBody>| {
                request_telemetry::observe(durations.clone(), request, next)
            },
        ))
        .wrap(from_fn(
            move |request: ServiceRequest, next: Next<BoxBody>| {
                shutdown.clone().track(request, next)
            },
        ))
        .wrap(from_fn(http::exchange))
}
