//! Short runs of `make chaos`, with another seed each time. A seed that failed is tried again with
//! `make chaos SEED=… DURATION=30s`.

use std::process::ExitCode;
use std::sync::RwLock;
use std::time::Duration;

use hookline_acceptance::chaos::schedule::Scene;
use hookline_acceptance::chaos::{Plan, run};
use hookline_testkit::small_disk as disk;
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
            Scene::Distributed,
            "distributed::nothing_is_lost_whatever_dies",
        ),
        (
            Scene::Embedded,
            "embedded::nothing_is_lost_whenever_it_dies",
        ),
        (Scene::FullDisk, "embedded::a_full_disk_loses_nothing"),
        (
            Scene::Cluster,
            "distributed::nothing_is_lost_whichever_node_of_a_cluster_dies",
        ),
    ];
    let trials = trials
        .into_iter()
        .map(|(scene, name)| {
            Trial::test(name, move || match scene {
                // It is timed, so nothing runs beside it.
                Scene::Cluster => {
                    let _alone = QUIET.write();
                    play(scene)
                }
                _ => {
                    let _beside_others = QUIET.read();
                    play(scene)
                }
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn play(scene: Scene) -> Result<(), Failed> {
    if scene == Scene::FullDisk
        && let Some(why) = disk::obstacle()
    {
        println!("chaos: a full disk was NOT TRIED: {why}");
        return Ok(());
    }
    let plan = Plan {
        seed: u64::from(rand::random::<u16>()),
        length: match scene {
            Scene::Cluster => LENGTH_ON_A_CLUSTER,
            _ => LENGTH,
        },
        rate: RATE,
        ..Plan::of(scene)
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
