//! One run from its first process to its verdict.

use std::path::Path;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::load::Load;
use super::report::Report;
use super::schedule::{Act, schedule};
use super::settling::{Settled, settle};
use super::stage::Stage;
use super::{Performed, Plan, receivers};

pub(super) async fn perform(plan: Plan, folder: &Path) -> anyhow::Result<Report> {
    let Plan {
        seed,
        scene,
        length,
        rate,
    } = plan;
    let name = scene.name();
    let acts = schedule(seed, scene, length);
    let mut lines = format!("chaos {name}: seed {seed}, {} s\n", length.as_secs());
    for act in &acts {
        lines.push_str(&format!("chaos {name}: {act}\n"));
    }
    eprint!("{lines}");

    let mut stage = Stage::set(scene, folder).await?;
    let versions = match &stage.servers {
        Some(servers) => servers.versions().await?,
        None => Vec::new(),
    };
    let ledger = Ledger::default();
    let receiver = receivers::start(&ledger, seed).await?;
    let receiver = format!("http://127.0.0.1:{}", receiver.port());
    let amqp = match &stage.servers {
        Some(servers) => Some(servers.amqp()?.to_owned()),
        None => None,
    };
    let load = Load::start(&ledger, seed, rate, &stage.tenants, receiver, amqp).await?;
    let began = Instant::now();
    let mut performed = Vec::with_capacity(acts.len());
    for act in acts {
        if began.elapsed() >= length {
            break;
        }
        performed.push(do_act(&mut stage, act, began).await?);
    }
    pause_until(began + length).await;
    load.end().await;
    let load_ended = Instant::now();
    stage.wait_ready().await?;
    let settled = settle(&stage, &ledger).await?;
    stage.ensure_running()?;
    let Settled { took, mut problems } = settled;
    let (wrong, wrongs) = ledger.wrongs();
    if wrongs > wrong.len() {
        problems.push(format!("{wrongs} things went wrong; the first were:"));
    }
    problems.extend(wrong);
    let report = Report {
        plan,
        versions,
        counts: ledger.counts(),
        deliveries: ledger.deliveries(),
        performed,
        began,
        load_ended,
        settled_after: took,
        problems,
    };
    stage.end().await?;
    Ok(report)
}

async fn do_act(stage: &mut Stage, act: Act, began: Instant) -> anyhow::Result<Performed> {
    pause_until(began + act.at).await;
    let hit = Instant::now();
    stage.hit(act.blow, &act.targets).await?;
    tokio::time::sleep(act.away).await;
    stage.bring_back(act.blow, &act.targets).await?;
    let back = Instant::now();
    Ok(Performed { act, hit, back })
}

/// The schedule is made of times, so here time itself is what is waited for.
async fn pause_until(moment: Instant) {
    let left: Duration = moment.saturating_duration_since(Instant::now());
    tokio::time::sleep(left).await;
}
