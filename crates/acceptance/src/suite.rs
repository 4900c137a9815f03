//! Runs sentences in both homes and reports like any test runner.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::sync::OnceCell;

use hookline_testkit::deployment::{Home, Kind};

/// A sentence's future.
pub type Told = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// A sentence that shares a home with others.
pub type Shared = (&'static str, fn(Arc<Home>) -> Told);

/// A sentence that starts homes of its own, because it stops, kills or cuts something.
pub type Alone = (&'static str, fn(Kind) -> Told);

/// Lists functions as sentences, with the names of their modules and their own.
#[macro_export]
macro_rules! sentences {
    ($($($part:ident)::+),* $(,)?) => {
        vec![$((concat!(module_path!(), "::", stringify!($($part)::+)), |home| Box::pin($($part)::+(home)))),*]
    };
}

/// How many sentences are tried at once: they wait more than they work.
const AT_ONCE: usize = 6;

/// How many trials the list of the slowest has.
const LISTED: usize = 25;

const HOMES: [(Kind, &str); 2] = [
    (Kind::Embedded, "embedded"),
    (Kind::Distributed, "distributed"),
];

/// All sentences, by the homes that they need.
pub struct Suite {
    /// Sentences that run in both kinds of home, side by side in one shared home of each kind.
    pub shared: Vec<Shared>,
    /// Sentences for the shared distributed home: an embedded home does not have the feature.
    pub shared_distributed: Vec<Shared>,
    /// Sentences that run in both kinds of home, and start homes of their own.
    pub alone: Vec<Alone>,
    /// The same, with no other sentence at the same time, because they measure time.
    pub quiet: Vec<Alone>,
    /// The same in distributed homes alone.
    pub quiet_distributed: Vec<Alone>,
    /// Sentences that start distributed homes of their own.
    pub distributed: Vec<Alone>,
    /// Sentences that start embedded homes of their own: in a distributed home the behaviour is the broker's, not ours.
    pub embedded: Vec<Alone>,
}

/// The shared homes. The first sentence that needs a home starts it.
#[derive(Default)]
struct Homes {
    embedded: OnceCell<Arc<Home>>,
    distributed: OnceCell<Arc<Home>>,
}

impl Homes {
    async fn of(&self, kind: Kind) -> anyhow::Result<Arc<Home>> {
        let cell = match kind {
            Kind::Embedded => &self.embedded,
            Kind::Distributed => &self.distributed,
        };
        let home = cell
            .get_or_try_init(async || anyhow::Ok(Arc::new(Home::start(kind).await?)))
            .await?;
        Ok(Arc::clone(home))
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
    quiet: RwLock<()>,
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
                let _others = self.quiet.read();
                timed()
            }
            Beside::Nothing => {
                let _alone = self.quiet.write();
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

/// Tries the sentences that the command line chooses.
///
/// # Errors
/// When no runtime can be made.
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
    let homes = Arc::new(Homes::default());
    let schedule = Arc::new(Schedule::default());
    let mut trials = Vec::new();
    for (kind, name) in HOMES {
        let (sharing, lonely, quiet_ones) = match kind {
            Kind::Embedded => (&[][..], &suite.embedded, &[][..]),
            Kind::Distributed => (
                &suite.shared_distributed[..],
                &suite.distributed,
                &suite.quiet_distributed[..],
            ),
        };
        let add = |beside, sentence, run| trial(name, sentence, &schedule, beside, run);
        // Sentences that start homes are long. They come first, and the last ones to run are short.
        let started = suite.alone.iter().chain(lonely);
        let started = started.map(|of| (Beside::Others, of));
        let quiet_ones = suite.quiet.iter().chain(quiet_ones);
        let quiet_ones = quiet_ones.map(|of| (Beside::Nothing, of));
        for (beside, &(sentence, told)) in started.chain(quiet_ones) {
            let runtime = Arc::clone(&runtime);
            trials.push(add(
                beside,
                sentence,
                Box::new(move || runtime.block_on(told(kind))),
            ));
        }
        for &(sentence, told) in suite.shared.iter().chain(sharing) {
            let (runtime, homes) = (Arc::clone(&runtime), Arc::clone(&homes));
            trials.push(add(
                Beside::Others,
                sentence,
                Box::new(move || runtime.block_on(shared(&homes, kind, told))),
            ));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    runtime.block_on(async {
        for home in [homes.embedded.get(), homes.distributed.get()]
            .into_iter()
            .flatten()
        {
            if let Err(why) = home.end().await {
                eprintln!("a home did not end: {why:#}");
            }
        }
    });
    schedule.print_slowest();
    Ok(conclusion.exit_code())
}

async fn shared(homes: &Homes, kind: Kind, told: fn(Arc<Home>) -> Told) -> anyhow::Result<()> {
    let home = homes.of(kind).await?;
    told(home).await
}

/// The work of a trial.
type Work = Box<dyn FnOnce() -> anyhow::Result<()> + Send>;

fn trial(
    home: &str,
    sentence: &str,
    schedule: &Arc<Schedule>,
    beside: Beside,
    work: Work,
) -> Trial {
    // The first name is that of this program.
    let told = sentence.split_once("::").map_or(sentence, |(_, told)| told);
    let name = format!("{home}::{}", told.replace(' ', ""));
    let schedule = Arc::clone(schedule);
    Trial::test(name.clone(), move || {
        let done = schedule.run(name, beside, work);
        done.map_err(|why| Failed::from(format!("{why:#}")))
    })
}
