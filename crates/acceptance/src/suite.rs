//! Runs scenarios in both deployment modes and reports like any test runner.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::sync::OnceCell;

use hookline_testkit::deployment::{Deployment, Mode};

/// A scenario's future.
pub type ScenarioFuture = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// A scenario that shares a deployment with others.
pub type SharedScenario = (&'static str, fn(Arc<Deployment>) -> ScenarioFuture);

/// A scenario that starts deployments of its own, because it stops, kills or cuts something.
pub type IsolatedScenario = (&'static str, fn(Mode) -> ScenarioFuture);

/// Lists functions as scenarios, with the names of their modules and their own.
#[macro_export]
macro_rules! scenarios {
    ($($($part:ident)::+),* $(,)?) => {
        vec![$((concat!(module_path!(), "::", stringify!($($part)::+)), |deployment| Box::pin($($part)::+(deployment)))),*]
    };
}

/// How many scenarios are tried at once: they wait more than they work.
const AT_ONCE: usize = 6;

/// How many trials the list of the slowest has.
const LISTED: usize = 25;

const MODES: [(Mode, &str); 2] = [
    (Mode::Standalone, "embedded"),
    (Mode::Distributed, "distributed"),
];

/// All scenarios, by the deployments that they need.
pub struct Suite {
    /// Scenarios that run in both deployment modes, side by side in one shared deployment of each kind.
    pub shared: Vec<SharedScenario>,
    /// Scenarios for the shared distributed deployment: a standalone deployment does not have the feature.
    pub shared_distributed: Vec<SharedScenario>,
    /// Scenarios that run in both deployment modes, and start deployments of their own.
    pub isolated: Vec<IsolatedScenario>,
    /// The same, with no other scenario at the same time, because they measure time.
    pub exclusive: Vec<IsolatedScenario>,
    /// The same in distributed deployments alone.
    pub exclusive_distributed: Vec<IsolatedScenario>,
    /// Scenarios that start distributed deployments of their own.
    pub distributed: Vec<IsolatedScenario>,
    /// Scenarios that start standalone deployments of their own: in a distributed deployment the behaviour is the broker's, not ours.
    pub standalone: Vec<IsolatedScenario>,
}

/// The shared deployments. The first scenario that needs a deployment starts it.
#[derive(Default)]
struct SharedDeployments {
    embedded: OnceCell<Arc<Deployment>>,
    distributed: OnceCell<Arc<Deployment>>,
}

impl SharedDeployments {
    async fn of(&self, mode: Mode) -> anyhow::Result<Arc<Deployment>> {
        let cell = match mode {
            Mode::Standalone => &self.embedded,
            Mode::Distributed => &self.distributed,
        };
        let deployment = cell
            .get_or_try_init(async || anyhow::Ok(Arc::new(Deployment::start(mode).await?)))
            .await?;
        Ok(Arc::clone(deployment))
    }
}

/// Which trials may run at the same time as one.
#[derive(Debug, Clone, Copy)]
enum Beside {
    Others,
    Nothing,
}

/// Keeps trials that measure time apart from all others, and notes how long each trial takes.
#[derive(Default)]
struct Schedule {
    exclusive: RwLock<()>,
    times: Mutex<Vec<(Duration, String)>>,
}

impl Schedule {
    fn run(&self, name: String, beside: Beside, work: Work) -> anyhow::Result<()> {
        let timed = || {
            let begun = Instant::now();
            let done = work();
            self.times().push((begun.elapsed(), name));
            done
        };
        match beside {
            Beside::Others => {
                let _others = self.exclusive.read();
                timed()
            }
            Beside::Nothing => {
                let _alone = self.exclusive.write();
                timed()
            }
        }
    }

    fn print_slowest(&self) {
        let mut times = self.times();
        times.sort_by(|one, other| other.cmp(one));
        println!("slowest:");
        for (time, name) in times.iter().take(LISTED) {
            println!("{:7.1} s  {name}", time.as_secs_f64());
        }
    }

    fn times(&self) -> MutexGuard<'_, Vec<(Duration, String)>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries the scenarios that the command line chooses.
pub fn run(suite: Suite) -> anyhow::Result<std::process::ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    // The product and this program both speak HTTP; the first of them to run chooses ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    );
    let deployments = Arc::new(SharedDeployments::default());
    let schedule = Arc::new(Schedule::default());
    let mut trials = Vec::new();
    for (mode, name) in MODES {
        let (sharing, lonely, exclusive) = match mode {
            Mode::Standalone => (&[][..], &suite.standalone, &[][..]),
            Mode::Distributed => (
                &suite.shared_distributed[..],
                &suite.distributed,
                &suite.exclusive_distributed[..],
            ),
        };
        let add = |beside, scenario, run| trial(name, scenario, &schedule, beside, run);
        // Scenarios that start deployments are long. They come first, and the last ones to run are short.
        let started = suite.isolated.iter().chain(lonely);
        let started = started.map(|of| (Beside::Others, of));
        let exclusive = suite.exclusive.iter().chain(exclusive);
        let exclusive = exclusive.map(|of| (Beside::Nothing, of));
        for (beside, &(scenario, told)) in started.chain(exclusive) {
            let runtime = Arc::clone(&runtime);
            trials.push(add(
                beside,
                scenario,
                Box::new(move || runtime.block_on(told(mode))),
            ));
        }
        for &(scenario, told) in suite.shared.iter().chain(sharing) {
            let (runtime, deployments) = (Arc::clone(&runtime), Arc::clone(&deployments));
            trials.push(add(
                Beside::Others,
                scenario,
                Box::new(move || runtime.block_on(shared(&deployments, mode, told))),
            ));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    runtime.block_on(async {
        for deployment in [deployments.embedded.get(), deployments.distributed.get()]
            .into_iter()
            .flatten()
        {
            if let Err(why) = deployment.end().await {
                eprintln!("a deployment did not end: {why:#}");
            }
        }
    });
    schedule.print_slowest();
    Ok(conclusion.exit_code())
}

async fn shared(
    deployments: &SharedDeployments,
    mode: Mode,
    told: fn(Arc<Deployment>) -> ScenarioFuture,
) -> anyhow::Result<()> {
    let deployment = deployments.of(mode).await?;
    told(deployment).await
}

/// The work of a trial.
type Work = Box<dyn FnOnce() -> anyhow::Result<()> + Send>;

fn trial(
    deployment: &str,
    scenario: &str,
    schedule: &Arc<Schedule>,
    beside: Beside,
    work: Work,
) -> Trial {
    // The first name is that of this program.
    let told = scenario.split_once("::").map_or(scenario, |(_, told)| told);
    let name = format!("{deployment}::{}", told.replace(' ', ""));
    let schedule = Arc::clone(schedule);
    Trial::test(name.clone(), move || {
        let done = schedule.run(name, beside, work);
        done.map_err(|why| Failed::from(format!("{why:#}")))
    })
}
