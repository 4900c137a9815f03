//! The HTTP server, with the limits that a client cannot argue with.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, web};
use anyhow::Context as _;
use hookline_core::ids::KeyId;
use hookline_core::rate::SharedRates;
use hookline_runtime::descriptors;
use hookline_runtime::http::{self, Bounds};
use tokio_util::sync::CancellationToken;

use crate::byte_room::ByteRoom;
use crate::in_flight::InFlight;
use crate::last_use::LastUse;
use crate::observe::{self, Durations};
use crate::per_minute::PerMinute;
use crate::published::Published;
use crate::tries::Tries;
use crate::underway::Underway;
use crate::{Api, answers, circle, routes};

/// Once the service is to stop, the requests under way may take as long as ever, and this for their
/// answers to reach a slow client.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What handlers work with; all workers share it.
#[derive(Clone)]
pub(crate) struct Service {
    /// The parts of the API.
    pub(crate) api: Arc<Api>,
    /// The requests under way, by key.
    pub(crate) in_flight: InFlight,
    /// How often each key has asked.
    pub(crate) requests: Arc<SharedRates<KeyId>>,
    /// How often each address has come with a wrong key.
    pub(crate) tries: Arc<Tries>,
    /// When each key was used.
    pub(crate) last_use: LastUse,
    /// The test calls lately, by organization.
    pub(crate) test_calls: PerMinute,
    pub(crate) retries: PerMinute,
    /// The events lately, by organization.
    pub(crate) published: Published,
    pub(crate) bodies: ByteRoom,
    answers: ByteRoom,
    durations: Durations,
    underway: Underway,
}

impl Service {
    /// A service before its first request.
    pub(crate) fn new(api: Api, stopping: CancellationToken) -> Self {
        Self {
            underway: Underway::until(stopping),
            requests: Arc::new(SharedRates::new(api.settings.requests_of_key)),
            tries: Arc::new(Tries::new(api.settings.failed_tries)),
            last_use: LastUse::default(),
            test_calls: PerMinute::new(api.settings.max_tests_per_minute),
            retries: PerMinute::new(api.settings.max_retries_per_minute),
            published: Published::new(api.settings.events_of_organization),
            api: Arc::new(api),
            in_flight: InFlight::default(),
            bodies: ByteRoom::for_bodies(),
            answers: ByteRoom::for_answers(),
            durations: Durations::default(),
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
    let service = Service::new(api, shutdown.clone());
    let underway = service.underway.clone();
    let server = http::serve(listener, bounds, shutdown, move || app(&service))
        .context("cannot serve the API on its listener")?;
    tokio::select! {
        ended = server => ended.context("the API's server died"),
        () = underway.over() => Ok(()),
    }
}

/// The application as each worker runs it.
pub(crate) fn app(
    service: &Service,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    let durations = service.durations.clone();
    let routed = service.clone();
    let underway = service.underway.clone();
    let room = service.answers.clone();
    let names = service.api.settings.hosts;
    App::new()
        .app_data(web::Data::new(service.clone()))
        .configure(move |config| routes::configure(&routed, config))
        .default_service(web::to(routes::nowhere))
        .wrap(from_fn(circle::refuse))
        .wrap(from_fn(move |request, next| names.check(request, next)))
        .wrap(from_fn(
            move |request: ServiceRequest, next: Next<BoxBody>| {
                answers::count(room.clone(), request, next)
            },
        ))
        .wrap(from_fn(
            move |request: ServiceRequest, next: Next<BoxBody>| {
                observe::request(durations.clone(), request, next)
            },
        ))
        .wrap(from_fn(
            move |request: ServiceRequest, next: Next<BoxBody>| {
                underway.clone().count(request, next)
            },
        ))
        .wrap(from_fn(http::exchange))
}
