//! One run from its first process to its verdict.

use std::path::Path;
use std::time::{Duration, Instant};

use super::fault::Injection;
use super::ledger::Ledger;
use super::load::Load;
use super::plan::{Performed, Plan};
use super::receivers;
use super::repeats::Repeats;
use super::report::Report;
use super::schedule::schedule;
use super::settling::{Settled, settle};
use super::system::System;

pub(super) async fn perform(plan: Plan, folder: &Path) -> anyhow::Result<Report> {
    let Plan {
        seed,
        scenario,
        length,
        ..
    } = plan;
    let name = scenario.name();
    let injections = schedule(&plan);
    let mut lines = format!("chaos {name}: seed {seed}, {} s\n", length.as_secs());
    for injection in &injections {
        lines.push_str(&format!("chaos {name}: {injection}\n"));
    }
    eprint!("{lines}");

    let mut system = System::start(plan, folder).await?;
    let ledger = Ledger::default();
    let finished = play(plan, injections, &mut system, &ledger).await;
    if finished.is_err() {
        for what in ledger.violations().0 {
            eprintln!("chaos {name}: {what}");
        }
    }
    system.end().await?;
    finished
}

async fn play(
    plan: Plan,
    injections: Vec<Injection>,
    system: &mut System,
    ledger: &Ledger,
) -> anyhow::Result<Report> {
    let Plan { seed, length, .. } = plan;
    let mut versions = vec![format!("Hookline {}", env!("CARGO_PKG_VERSION"))];
    if let Some(servers) = &system.servers {
        versions.extend(servers.versions().await?);
    }
    let receiver = receivers::start(ledger, &system.refusal, seed).await?;
    let receiver = format!("http://127.0.0.1:{}", receiver.port());
    let load = Load::start(plan, ledger, system, receiver).await?;
    let began = Instant::now();
    let mut performed = Vec::with_capacity(injections.len());
    for injection in injections {
        if began.elapsed() >= length {
            break;
        }
        performed.push(inject(system, ledger, injection, began).await?);
    }
    pause_until(began + length).await;
    load.end().await;
    let load_ended = Instant::now();
    system.wait_ready().await?;
    let Settled {
        elapsed,
        put_aside,
        mut problems,
    } = settle(system, ledger).await?;
    system.ensure_running()?;
    let (violations, violation_count) = ledger.violations();
    if violation_count > violations.len() {
        problems.push(format!(
            "{violation_count} things went wrong; the first were:"
        ));
    }
    problems.extend(violations);
    problems.append(&mut system.problems);
    let repeats = Repeats::of(&ledger.accepted_requests(), &performed);
    Ok(Report {
        plan,
        versions,
        counts: ledger.counts(),
        repeats,
        deliveries: ledger.deliveries(),
        confirms: ledger.confirms(),
        performed,
        load_ended,
        settled_after: elapsed,
        put_aside,
        problems,
    })
}

async fn inject(
    system: &mut System,
    ledger: &Ledger,
    injection: Injection,
    began: Instant,
) -> anyhow::Result<Performed> {
    pause_until(began + injection.at).await;
    system.prepare(&injection, ledger).await?;
    let hit = Instant::now();
    system.inject(&injection).await?;
    pause_until(hit + injection.away).await;
    system.restore(&injection).await?;
    let back = Instant::now();
    system.check_effects(&injection).await?;
    Ok(Performed {
        injection,
        began,
        back,
    })
}

/// Sleeps until a time of the schedule: the schedule consists of times, not of conditions.
async fn pause_until(moment: Instant) {
    let left: Duration = moment.saturating_duration_since(Instant::now());
    tokio::time::sleep(left).await;
}
