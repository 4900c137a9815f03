//! One run from its first process to its verdict.

use std::path::Path;
use std::time::{Duration, Instant};

use super::fault::Act;
use super::ledger::Ledger;
use super::load::Load;
use super::repeats::Repeats;
use super::report::Report;
use super::schedule::schedule;
use super::settling::{Settled, settle};
use super::system::Stage;
use super::{Performed, Plan, receivers};

pub(super) async fn perform(plan: Plan, folder: &Path) -> anyhow::Result<Report> {
    let Plan {
        seed,
        scene,
        length,
        ..
    } = plan;
    let name = scene.name();
    let acts = schedule(&plan);
    let mut lines = format!("chaos {name}: seed {seed}, {} s\n", length.as_secs());
    for act in &acts {
        lines.push_str(&format!("chaos {name}: {act}\n"));
    }
    eprint!("{lines}");

    let mut stage = Stage::set(plan, folder).await?;
    let ledger = Ledger::default();
    let played = play(plan, acts, &mut stage, &ledger).await;
    if played.is_err() {
        for what in ledger.wrongs().0 {
            eprintln!("chaos {name}: {what}");
        }
    }
    stage.end().await?;
    played
}

async fn play(
    plan: Plan,
    acts: Vec<Act>,
    stage: &mut Stage,
    ledger: &Ledger,
) -> anyhow::Result<Report> {
    let Plan { seed, length, .. } = plan;
    let mut versions = vec![format!("Hookline {}", env!("CARGO_PKG_VERSION"))];
    if let Some(servers) = &stage.servers {
        versions.extend(servers.versions().await?);
    }
    let receiver = receivers::start(ledger, &stage.refusal, seed).await?;
    let receiver = format!("http://127.0.0.1:{}", receiver.port());
    let load = Load::start(plan, ledger, stage, receiver).await?;
    let began = Instant::now();
    let mut performed = Vec::with_capacity(acts.len());
    for act in acts {
        if began.elapsed() >= length {
            break;
        }
        performed.push(do_act(stage, ledger, act, began).await?);
    }
    pause_until(began + length).await;
    load.end().await;
    let load_ended = Instant::now();
    stage.wait_ready().await?;
    let Settled {
        took,
        put_aside,
        mut problems,
    } = settle(stage, ledger).await?;
    stage.ensure_running()?;
    let (wrong, wrongs) = ledger.wrongs();
    if wrongs > wrong.len() {
        problems.push(format!("{wrongs} things went wrong; the first were:"));
    }
    problems.extend(wrong);
    problems.append(&mut stage.problems);
    let repeats = Repeats::of(&ledger.taken_requests(), &performed);
    Ok(Report {
        plan,
        versions,
        counts: ledger.counts(),
        repeats,
        deliveries: ledger.deliveries(),
        confirms: ledger.confirms(),
        performed,
        load_ended,
        settled_after: took,
        put_aside,
        problems,
    })
}

async fn do_act(
    stage: &mut Stage,
    ledger: &Ledger,
    act: Act,
    began: Instant,
) -> anyhow::Result<Performed> {
    pause_until(began + act.at).await;
    stage.prepare(&act, ledger).await?;
    let hit = Instant::now();
    stage.hit(&act).await?;
    pause_until(hit + act.away).await;
    stage.bring_back(&act).await?;
    let back = Instant::now();
    stage.judge(&act).await?;
    Ok(Performed { act, hit, back })
}

/// Sleeps until a time of the schedule: the schedule consists of times, not of conditions.
async fn pause_until(moment: Instant) {
    let left: Duration = moment.saturating_duration_since(Instant::now());
    tokio::time::sleep(left).await;
}
