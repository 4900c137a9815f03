//! The main of a service: what comes before its work and after it.
//!
//! Whatever goes wrong is one line on standard error. The exit status says whose fault it was: 2
//! for bad arguments and settings, which a restart does not mend, and 1 for anything else.

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
use crate::{admin, descriptors, fault, peers, shutdown, tls};

/// Blocking calls wait for the database, and there are never many connections to it.
const MAX_BLOCKING_THREADS: usize = 64;

/// How long blocking calls may hold up the end.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// What a service works with.
#[derive(Debug, Clone)]
pub struct Context {
    /// All settings.
    pub settings: Arc<Settings>,
    /// When the service shall stop: it takes no more work, finishes and returns.
    pub shutdown: Shutdown,
    /// Where the service registers its parts, all of them once they can be asked.
    pub readiness: Readiness,
    /// What `/metrics` shows.
    pub metrics: Metrics,
}

impl Context {
    /// Connects to a peer as [`peers::wait_for`] does, for as long as the settings say.
    ///
    /// # Errors
    /// When the peer stays away, or when the service was told to stop meanwhile.
    pub async fn wait_for<T, E: std::fmt::Display>(
        &self,
        name: &str,
        connect: impl AsyncFnMut() -> Result<T, E>,
    ) -> anyhow::Result<T> {
        let limit = self.settings.start.wait_for_peers;
        tokio::select! {
            found = peers::wait_for(name, limit, connect) => found,
            () = self.shutdown.asked.cancelled() => Err(Stopped(name.to_owned()).into()),
        }
    }
}

/// A service that was told to stop before it had begun, which is no failure.
#[derive(Debug, thiserror::Error)]
#[error("stopped while waiting for {0}")]
struct Stopped(String);

/// Runs a service from its arguments to its exit status.
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

/// Says in one line why a program ends, in the format of its log, and returns its exit status.
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
    // Nobody is left to tell when standard error is closed.
    let _unheard = writeln!(io::stderr(), "{line}");
    match error.chain().any(|cause| cause.is::<SettingsError>()) {
        true => 2,
        false => 1,
    }
}

/// Runs a service with these settings until it ends, with its telemetry, its admin listener and
/// the signals that stop it.
///
/// # Errors
/// Whatever stopped the start, or the service.
pub fn host<F, Fut>(name: &'static str, settings: Settings, serve: F) -> anyhow::Result<()>
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    fault::arm();
    tls::use_ring();
    let runtime = runtime(name)?;
    let guard = runtime.enter();
    let telemetry = Telemetry::start(name, &settings)?;
    descriptors::raise_limit();
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let shutdown =
        shutdown::within(settings.stop.grace).context("signals cannot be listened to")?;
    let context = Context {
        settings: Arc::new(settings),
        readiness: Readiness::until(shutdown.asked.clone()),
        shutdown,
        metrics: telemetry.metrics().clone(),
    };
    drop(guard);
    let ended = runtime.block_on(beside_admin(context, serve));
    telemetry.shutdown();
    runtime.shutdown_timeout(LAST_CALLS);
    match ended {
        Err(why) if why.is::<Stopped>() => {
            tracing::info!("{why}");
            Ok(())
        }
        ended => ended,
    }
}

/// The admin listener is there before the service's own start, so that a service that waits for
/// its database is seen to live and not to be ready.
async fn beside_admin<F, Fut>(context: Context, serve: F) -> anyhow::Result<()>
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let listener = admin::listen("admin.listen", context.settings.admin.listen)?;
    tracing::info!(address = %listener.local_addr()?, "health and metrics are served");
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
    let answered = answering.await.context("the admin listener died")?;
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
