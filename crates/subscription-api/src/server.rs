//! The HTTP server, with the limits that a client cannot argue with.

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

use crate::limits::memory::ByteRoom;
use crate::middleware::graceful_shutdown::Underway;
use crate::middleware::request_telemetry::{self, Durations};
use crate::middleware::{loop_detection, response_memory};
use crate::routes::docs::OpenApiDocument;
use crate::state::{Api, AppState};
use crate::{openapi, routes};

/// Once the service is to stop, the requests under way may take as long as ever, and this for their
/// answers to reach a slow client.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The application of all workers: the state of handlers, and the state of the middleware around every route.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) state: AppState,
    responses: ByteRoom,
    durations: Durations,
    shutdown: Underway,
}

impl Server {
    pub(crate) fn new(api: Api, stopping: CancellationToken) -> Self {
        Self {
            state: AppState::new(api),
            responses: ByteRoom::for_answers(),
            durations: Durations::default(),
            shutdown: Underway::until(stopping),
        }
    }
}

/// Serves the API on `listener` until `shutdown`; then it accepts no connection, and the requests
/// under way end.
///
/// # Errors
/// When the listener cannot be used or the server dies.
pub async fn run(
    listener: TcpListener,
    api: Api,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let settings = api.settings;
    let bounds = Bounds {
        workers: settings.workers.max(1),
        connections: descriptors::connections("api.max_connections", settings.max_connections),
        clocks: settings.clocks,
        last_answers: settings.request_deadline + LAST_ANSWERS,
    };
    let server = Server::new(api, shutdown.clone());
    let requests = server.shutdown.clone();
    let serving = http::serve(listener, bounds, shutdown, move || app(&server))
        .context("cannot serve the API on its listener")?;
    tokio::select! {
        ended = serving => ended.context("the API's server died"),
        () = requests.over() => Ok(()),
    }
}

/// The application as each worker runs it.
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
        responses,
        durations,
        shutdown,
    } = server.clone();
    let hosts = state.api.settings.hosts;
    let routed = state.clone();
    App::new()
        .app_data(web::Data::new(state))
        .app_data(web::Data::new(OpenApiDocument(openapi::document())))
        .configure(move |config| routes::configure(&routed, config))
        .default_service(web::to(routes::nowhere))
        .wrap(from_fn(loop_detection::refuse))
        .wrap(from_fn(move |request, next| hosts.check(request, next)))
        .wrap(from_fn(
            move |request: ServiceRequest, next: Next<BoxBody>| {
                response_memory::count(responses.clone(), request, next)
            },
        ))
        .wrap(from_fn(
            move |request: ServiceRequest, next: Next<BoxBody>| {
                request_telemetry::request(durations.clone(), request, next)
            },
        ))
        .wrap(from_fn(
            move |request: ServiceRequest, next: Next<BoxBody>| {
                shutdown.clone().count(request, next)
            },
        ))
        .wrap(from_fn(http::exchange))
}
