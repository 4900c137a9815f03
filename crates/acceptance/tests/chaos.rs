//! Short runs of `make chaos`, with another seed each time. A seed that failed is tried again with
//! `make chaos SEED=… DURATION=30s`.

use std::process::ExitCode;
use std::sync::RwLock;
use std::time::Duration;

use hookline_acceptance::chaos::plan::Plan;
use hookline_acceptance::chaos::run;
use hookline_acceptance::chaos::scenario::Scenario;
use hookline_testkit::small_disk;
use libtest_mimic::{Arguments, Failed, Trial};

const LENGTH: Duration = Duration::from_secs(30);

/// Time for a kill of a node, and a freeze that outlasts what may stand still.
const LENGTH_ON_A_CLUSTER: Duration = Duration::from_secs(25);

static QUIET: RwLock<()> = RwLock::new(());

/// Little, because all of them run side by side.
const RATE: u32 = 20;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(3);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let trials = [
        (
            Scenario::Distributed,
            "distributed::nothing_is_lost_when_any_process_dies",
        ),
        (
            Scenario::Standalone,
            "embedded::nothing_is_lost_when_the_process_dies",
        ),
        (Scenario::FullDisk, "embedded::a_full_disk_loses_nothing"),
        (
            Scenario::Cluster,
            "distributed::nothing_is_lost_when_a_cluster_node_dies",
        ),
    ];
    let trials = trials
        .into_iter()
        .map(|(scenario, name)| {
            Trial::test(name, move || match scenario {
                // It is timed, so nothing runs beside it.
                Scenario::Cluster => {
                    let _alone = QUIET.write();
                    run_scenario(scenario)
                }
                _ => {
                    let _beside_others = QUIET.read();
                    run_scenario(scenario)
                }
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run_scenario(scenario: Scenario) -> Result<(), Failed> {
    if scenario == Scenario::FullDisk
        && let Some(why) = small_disk::obstacle()
    {
        println!("chaos: a full disk was NOT TRIED: {why}");
        return Ok(());
    }
    let plan = Plan {
        seed: u64::from(rand::random::<u16>()),
        length: match scenario {
            Scenario::Cluster => LENGTH_ON_A_CLUSTER,
            _ => LENGTH,
        },
        rate: RATE,
        ..Plan::of(scenario)
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime
        .block_on(run(plan))
        .map_err(|why| format!("{why:#}"))?;
    println!("{}", report.line());
    match report.is_good() {
        true => Ok(()),
        false => Err(report.all_problems().join("\n").into()),
    }
}
