//! Crash safety. A seeded schedule kills, freezes and stops the processes and servers of a deployment under load, while
//! receivers keep a ledger.
//!
//! In the end every confirmed event has been delivered to every subscription that wanted it. No delivery arrived that
//! was not owed. A repeated delivery has the same `webhook-id`.

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

pub mod abuse;
pub mod fault;
mod ledger;
mod links;
mod load;
mod owners;
pub mod plan;
mod process;
mod receivers;
pub mod repeats;
pub mod report;
mod run;
pub mod scenario;
mod schedule;
mod servers;
mod settling;
mod system;

pub use ledger::Counts;
use plan::Plan;
use report::Report;

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
