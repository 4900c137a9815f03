//! Crash safety. A seeded schedule kills, freezes and stops the processes and servers of a deployment under load, while
//! receivers keep a ledger.
//!
//! In the end every confirmed event has been delivered to every subscription that wanted it. No delivery arrived that
//! was not owed. A repeated delivery has the same `webhook-id`.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

pub mod abuse;
pub mod fault;
mod ledger;
mod links;
mod load;
mod owners;
mod process;
mod receivers;
pub mod repeats;
pub mod report;
mod run;
pub mod schedule;
mod servers;
mod settling;
mod system;

use fault::Injection;
pub use ledger::Counts;
use report::Report;
use schedule::{FaultKind, Scenario};

/// The settings of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The seed of the random numbers.
    pub seed: u64,
    /// Where, and what is done there.
    pub scenario: Scenario,
    /// How long there is load, and faults.
    pub length: Duration,
    /// How many events are published each second in each way that the deployment has.
    pub rate: u32,
    /// Dispatchers of a distributed deployment.
    pub dispatchers: usize,
    /// Each process drops one wake-up in this many, all the time.
    pub drop_wake_ups: Option<u8>,
    /// The one kind of fault to perform; `None` for all kinds of the scenario.
    pub only: Option<FaultKind>,
}

impl Plan {
    /// A minute of this scenario as it is run where nothing else is asked for.
    pub fn of(scenario: Scenario) -> Self {
        Self {
            seed: 0,
            scenario,
            length: Duration::from_secs(60),
            rate: 40,
            dispatchers: 2,
            drop_wake_ups: None,
            only: None,
        }
    }
}

/// A fault that was done.
#[derive(Debug, Clone)]
pub struct Performed {
    /// The fault as planned.
    pub injection: Injection,
    /// When it began.
    pub began: Instant,
    /// When everything had been started or thawed again; it need not be ready then.
    pub back: Instant,
}

/// Runs a plan, says on standard error what it does, and judges.
///
/// # Errors
/// When the run itself cannot go on: a process ended by itself, or a server did not come back.
pub async fn run(plan: Plan) -> anyhow::Result<Report> {
    let folder = new_folder()?;
    let ended = tokio::select! {
        ended = run::perform(plan, folder.path()) => ended,
        // All started processes end with the run that is dropped here.
        why = interrupted() => Err(why),
    };
    kept_on_failure(ended, folder)
}

async fn interrupted() -> anyhow::Error {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminations) => terminations.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
    anyhow::anyhow!("interrupted")
}

fn new_folder() -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("hookline-chaos-")
        .tempdir()
        .context("no folder for a run")
}

/// The logs of a run that failed can be read.
fn kept_on_failure(ended: anyhow::Result<Report>, folder: TempDir) -> anyhow::Result<Report> {
    if !ended.as_ref().is_ok_and(Report::is_good) {
        eprintln!("chaos: the logs are kept in {}", folder.keep().display());
    }
    ended
}
