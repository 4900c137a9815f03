//! The main function of a service: its start and its end.
//!
//! A failure is one line on standard error. The exit status is 2 for bad arguments and settings, where a restart does
//! not help, and 1 for all other failures.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use hookline_core::timestamp::Timestamp;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::args::ServiceArgs;
use crate::readiness::Readiness;
use crate::settings::{LogFormat, Settings, SettingsError};
use crate::shutdown::Shutdown;
use crate::telemetry::{Metrics, Telemetry};
use crate::{admin, dependencies, descriptors, failpoint, shutdown, tls};

/// Blocking calls wait for the database, which has few connections.
const MAX_BLOCKING_THREADS: usize = 64;

/// The most time that blocking calls may delay the end.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// The runtime of a service.
#[derive(Debug, Clone)]
pub struct Context {
    pub settings: Arc<Settings>,
    pub shutdown: Shutdown,
    /// The service registers its parts here when they can answer.
    pub readiness: Readiness,
    pub metrics: Metrics,
}

impl Context {
    /// Calls [`dependencies::wait_for`] with the limit of the settings.
    ///
    /// # Errors
    /// When the limit is over, or when the service is stopped meanwhile.
    pub async fn wait_for<T, E: std::fmt::Display>(
        &self,
        name: &str,
        connect: impl AsyncFnMut() -> Result<T, E>,
    ) -> anyhow::Result<T> {
        let limit = self.settings.start.wait_for_peers;
        tokio::select! {
            found = dependencies::wait_for(name, limit, connect) => found,
            () = self.shutdown.draining.cancelled() => Err(StoppedWhileWaiting(name.to_owned()).into()),
        }
    }
}

/// The service was stopped while it waited for a dependency, which is no failure.
#[derive(Debug, thiserror::Error)]
#[error("stopped while waiting for {0}")]
struct StoppedWhileWaiting(String);

pub fn run<F, Fut>(name: &'static str, serve: F) -> ExitCode
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    ExitCode::from(run_with(name, &ServiceArgs::of_process(name), serve))
}

fn run_with<F, Fut>(name: &'static str, args: &ServiceArgs, serve: F) -> u8
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let ended = match args.print_default_config {
        true => io::stdout()
            .write_all(Settings::default_file().as_bytes())
            .map_err(Into::into),
        false => Settings::load(args.config.as_deref())
            .map_err(Into::into)
            .and_then(|settings| host(name, settings, serve)),
    };
    ended.map_or_else(|error| failed(name, &error), |()| 0)
}

/// Writes one line with the error, in the format of the log, and returns the exit status.
pub fn failed(name: &str, error: &anyhow::Error) -> u8 {
    let message = format!("{name}: {error:#}").replace(['\n', '\r'], " ");
    let line = match Settings::format_of_process() {
        LogFormat::Text => message,
        LogFormat::Json => json!({
            "timestamp": Timestamp::from(SystemTime::now()).to_string(),
            "level": "ERROR",
            "message": message,
            "target": name,
        })
        .to_string(),
    };
    // A closed standard error leaves no place to report it.
    let _closed = writeln!(io::stderr(), "{line}");
    match error.chain().any(|cause| cause.is::<SettingsError>()) {
        true => 2,
        false => 1,
    }
}

/// Runs a service with telemetry, an admin listener and graceful shutdown, until it ends.
pub fn host<F, Fut>(name: &'static str, settings: Settings, serve: F) -> anyhow::Result<()>
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    failpoint::arm();
    tls::use_ring();
    let runtime = runtime(name)?;
    let guard = runtime.enter();
    let telemetry = Telemetry::start(name, &settings)?;
    descriptors::raise_limit();
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let shutdown = shutdown::within(settings.stop.grace).context("cannot listen to signals")?;
    let context = Context {
        settings: Arc::new(settings),
        readiness: Readiness::until(shutdown.draining.clone()),
        shutdown,
        metrics: telemetry.metrics().clone(),
    };
    drop(guard);
    let ended = runtime.block_on(beside_admin(context, serve));
    telemetry.shutdown();
    runtime.shutdown_timeout(LAST_CALLS);
    match ended {
        Err(why) if why.is::<StoppedWhileWaiting>() => {
            tracing::info!("{why}");
            Ok(())
        }
        ended => ended,
    }
}

/// The admin listener starts before the service, so that a service that waits for its database answers as alive and not
/// ready.
async fn beside_admin<F, Fut>(context: Context, serve: F) -> anyhow::Result<()>
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let listener = admin::listen("admin.listen", context.settings.admin.listen)?;
    tracing::info!(address = %listener.local_addr()?, "serving health and metrics");
    let stop = CancellationToken::new();
    let answering = tokio::spawn(admin::serve(
        listener,
        context.settings.hosts,
        context.readiness.clone(),
        context.metrics.clone(),
        stop.clone(),
    ));
    let ended = serve(context).await;
    stop.cancel();
    let answered = answering.await.context("the admin listener panicked")?;
    ended.and(answered.context("the admin listener failed"))
}

fn runtime(name: &'static str) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(name)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build()
}

#[cfg(test)]
mod tests;
