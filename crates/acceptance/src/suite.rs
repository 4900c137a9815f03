//! Runs scenarios in both deployment modes and reports like any test runner.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
const AT_ONCE: usize = 8;

/// How many trials the list of the slowest has.
const LISTED: usize = 25;

/// All scenarios, by the deployments that they need.
pub struct Suite {
    /// Scenarios that run in both deployment modes, side by side in one shared deployment of each kind.
    pub shared: Vec<SharedScenario>,
    /// Scenarios for the shared distributed deployment: a standalone deployment does not have the feature.
    pub shared_distributed: Vec<SharedScenario>,
    /// Scenarios that run in both deployment modes, and start deployments of their own.
    pub isolated: Vec<IsolatedScenario>,
    /// The same, one by one after all others, because they measure time.
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

    async fn end(&self) {
        for deployment in [self.embedded.get(), self.distributed.get()]
            .into_iter()
            .flatten()
        {
            if let Err(why) = deployment.end().await {
                eprintln!("a deployment did not end: {why:#}");
            }
        }
    }
}

/// How long each trial took.
#[derive(Default)]
struct ScenarioTimes(Mutex<Vec<(Duration, String)>>);

impl ScenarioTimes {
    fn run(&self, name: String, work: Work) -> anyhow::Result<()> {
        let begun = Instant::now();
        let done = work();
        self.lock().push((begun.elapsed(), name));
        done
    }

    fn print_slowest(&self) {
        let mut times = self.lock();
        times.sort_by(|one, other| other.cmp(one));
        println!("slowest:");
        for (time, name) in times.iter().take(LISTED) {
            println!("{:7.1} s  {name}", time.as_secs_f64());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Duration, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries the scenarios that the command line chooses: first those that may run side by side, then the others one by one.
pub fn run(suite: Suite) -> anyhow::Result<ExitCode> {
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
    let times = Arc::new(ScenarioTimes::default());

    let isolated = |mode, scenarios: Vec<IsolatedScenario>| {
        let trials = scenarios.into_iter().map(|(name, scenario)| {
            let runtime = Arc::clone(&runtime);
            let work = Box::new(move || runtime.block_on(scenario(mode)));
            trial(mode, name, &times, work)
        });
        trials.collect::<Vec<Trial>>()
    };
    let shared = |mode, scenarios: Vec<SharedScenario>| {
        let trials = scenarios.into_iter().map(|(name, scenario)| {
            let (runtime, deployments) = (Arc::clone(&runtime), Arc::clone(&deployments));
            let work = Box::new(move || {
                runtime.block_on(async { scenario(deployments.of(mode).await?).await })
            });
            trial(mode, name, &times, work)
        });
        trials.collect::<Vec<Trial>>()
    };
    // Scenarios that start deployments are long, those in distributed deployments the longest. They come first, so that
    // the last ones to run are short.
    let side_by_side = [
        isolated(Mode::Distributed, suite.distributed),
        isolated(Mode::Distributed, suite.isolated.clone()),
        isolated(Mode::Standalone, suite.standalone),
        isolated(Mode::Standalone, suite.isolated),
        shared(Mode::Distributed, suite.shared_distributed),
        shared(Mode::Distributed, suite.shared.clone()),
        shared(Mode::Standalone, suite.shared),
    ];
    let one_by_one = [
        isolated(Mode::Distributed, suite.exclusive_distributed),
        isolated(Mode::Distributed, suite.exclusive.clone()),
        isolated(Mode::Standalone, suite.exclusive),
    ];
    let first = libtest_mimic::run(&arguments, side_by_side.into_iter().flatten().collect());
    arguments.test_threads = Some(1);
    let second = libtest_mimic::run(&arguments, one_by_one.into_iter().flatten().collect());
    runtime.block_on(deployments.end());
    times.print_slowest();
    Ok(match first.has_failed() {
        true => first.exit_code(),
        false => second.exit_code(),
    })
}

/// The work of a trial.
type Work = Box<dyn FnOnce() -> anyhow::Result<()> + Send>;

fn trial(mode: Mode, scenario: &str, times: &Arc<ScenarioTimes>, work: Work) -> Trial {
    // The first name is that of this program.
    let named = scenario
        .split_once("::")
        .map_or(scenario, |(_, named)| named);
    let mode = match mode {
        Mode::Standalone => "embedded",
        Mode::Distributed => "distributed",
    };
    let name = format!("{mode}::{}", named.replace(' ', ""));
    let times = Arc::clone(times);
    Trial::test(name.clone(), move || {
        let done = times.run(name, work);
        done.map_err(|why| Failed::from(format!("{why:#}")))
    })
}
