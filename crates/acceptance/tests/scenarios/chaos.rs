//! Short runs of `make chaos`, with another seed each time. A seed that failed is tried again with
//! `make chaos SEED=… DURATION=30s`.

use std::time::Duration;

use anyhow::ensure;
use hookline_acceptance::chaos::plan::Plan;
use hookline_acceptance::chaos::run;
use hookline_acceptance::chaos::scenario::Scenario;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::Mode;
use hookline_testkit::small_disk;

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![nothing_is_lost_when_processes_die]
}

pub(crate) fn standalone() -> Vec<IsolatedScenario> {
    scenarios![a_full_disk_loses_nothing]
}

/// It is timed.
pub(crate) fn exclusive_distributed() -> Vec<IsolatedScenario> {
    scenarios![nothing_is_lost_when_a_cluster_node_dies]
}

const LENGTH: Duration = Duration::from_secs(30);

/// Time for a kill of a node, and a freeze that outlasts what may stand still.
const LENGTH_ON_A_CLUSTER: Duration = Duration::from_secs(25);

/// Events a second: few, because other scenarios run beside these.
const RATE: u32 = 20;

async fn nothing_is_lost_when_processes_die(mode: Mode) -> anyhow::Result<()> {
    let scenario = match mode {
        Mode::Distributed => Scenario::Distributed,
        Mode::Standalone => Scenario::Standalone,
    };
    loses_nothing(scenario, LENGTH).await
}

async fn a_full_disk_loses_nothing(_: Mode) -> anyhow::Result<()> {
    if let Some(why) = small_disk::missing_requirement() {
        println!("chaos: a full disk was NOT TRIED: {why}");
        return Ok(());
    }
    loses_nothing(Scenario::FullDisk, LENGTH).await
}

async fn nothing_is_lost_when_a_cluster_node_dies(_: Mode) -> anyhow::Result<()> {
    loses_nothing(Scenario::Cluster, LENGTH_ON_A_CLUSTER).await
}

async fn loses_nothing(scenario: Scenario, length: Duration) -> anyhow::Result<()> {
    let plan = Plan {
        seed: u64::from(rand::random::<u16>()),
        length,
        rate: RATE,
        ..Plan::of(scenario)
    };
    let report = run(plan).await?;
    println!("{}", report.line());
    ensure!(report.is_good(), "{}", report.all_problems().join("\n"));
    Ok(())
}
