//! Crash safety. A seeded schedule kills, freezes and stops the processes and servers of a home under load, while
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

use fault::Act;
pub use ledger::Counts;
use report::Report;
use schedule::{Choice, Scene};

/// The settings of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Where chance begins.
    pub seed: u64,
    /// Where, and what is done there.
    pub scene: Scene,
    /// How long there is load, and acts.
    pub length: Duration,
    /// How many events are published each second in each way that the home has.
    pub rate: u32,
    /// Dispatchers of a distributed home.
    pub dispatchers: usize,
    /// Each process drops one wake-up in this many, all the time.
    pub drop_wake_ups: Option<u8>,
    /// The one kind of act to perform; `None` for all kinds of the scene.
    pub acts: Option<Choice>,
}

impl Plan {
    /// A minute of this scene as it is played where nothing else is asked for.
    pub fn of(scene: Scene) -> Self {
        Self {
            seed: 0,
            scene,
            length: Duration::from_secs(60),
            rate: 40,
            dispatchers: 2,
            drop_wake_ups: None,
            acts: None,
        }
    }
}

/// An act that was done.
#[derive(Debug, Clone)]
pub struct Performed {
    /// The act as planned.
    pub act: Act,
    /// When it began.
    pub hit: Instant,
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
