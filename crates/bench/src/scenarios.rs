//! The workloads.

mod backlog;
mod drain;
mod large;
mod latency;
mod many;
mod neighbours;
mod pages;
mod rates;
mod slow;

use clap::ValueEnum;
use hookline_testkit::deployment::Mode;

use crate::child_process::{ReceiverProcess, Scheme, posts_at, posts_per_second, relay};
use crate::measurement::{
    DELIVERED, Goal, Labels, MILLIS, Measurement, POSTS, RATE, RELAYS, bare_latency,
};
use crate::setup::{Setup, SetupOptions};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One subscription, 20,000 events
    A,
    /// Fan-out to ten subscriptions, 4,000 events
    B,
    /// 50 events a second for 30 s: latency
    C,
    /// A backlog of 50,000, and the dispatcher alone (distributed)
    D,
    /// 200 events a second for 120 s, one of ten receivers hangs
    E,
    /// Like a, but the first attempt of one delivery in twenty fails
    F,
    /// Receivers that take 500 ms, with 1, 2 and 4 dispatchers (distributed)
    G,
    /// 1,000, 10,000 and 100,000 subscriptions of 1,000 organizations
    H,
    /// Pages of a log of 10,000,000 rows
    I,
    /// A request of 60 or 1,000 events for 1,000 subscriptions, and another organization beside it
    J,
    /// 1,000,000 deliveries owed to 1,000 subscriptions that are down, and 100,000 to one that recovers (distributed)
    K,
    /// Like a, with receivers that use TLS
    Tls,
}

/// The factor of each workload's size.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub f64);

impl Size {
    /// The scaled number, at least one.
    fn of(self, full: u64) -> u64 {
        ((full as f64 * self.0) as u64).max(1)
    }
}

impl Scenario {
    /// Its letter in the issue and in the tables.
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::D => "d",
            Self::E => "e",
            Self::F => "f",
            Self::G => "g",
            Self::H => "h",
            Self::I => "i",
            Self::J => "j",
            Self::K => "k",
            Self::Tls => "a-tls",
        }
    }

    /// Whether this mode can run the workload. The embedded mode is one process: no service can be left out or started
    /// twice.
    pub fn is_of(self, mode: Mode) -> bool {
        mode == Mode::Distributed || !matches!(self, Self::D | Self::G | Self::K)
    }

    /// Runs the workload once.
    pub async fn run(self, mode: Mode, size: Size) -> anyhow::Result<Vec<Measurement>> {
        let labels = Labels {
            scenario: self.letter(),
            mode: Some(mode),
        };
        match self {
            Self::A => rates::one(labels, mode, size).await,
            Self::Tls => rates::tls(labels, mode, size).await,
            Self::B => rates::ten(labels, mode, size).await,
            Self::F => rates::failing(labels, mode, size).await,
            Self::C => latency::run(labels, mode, size).await,
            Self::D => drain::run(labels, size).await,
            Self::E => neighbours::run(labels, mode, size).await,
            Self::G => slow::run(labels, size).await,
            Self::H => many::run(labels, mode, size).await,
            Self::I => pages::run(labels, mode, size).await,
            Self::J => large::run(labels, mode, size).await,
            Self::K => backlog::run(labels, size).await,
        }
    }
}

/// The bare requests per second of this machine at this moment.
pub async fn bare_posts(size: Size) -> anyhow::Result<f64> {
    let receiver = ReceiverProcess::start(Scheme::Http).await?;
    posts_per_second(&receiver, size.of(60_000)).await
}

/// The figures of this machine without Hookline at this moment.
pub async fn raw(modes: &[Mode], size: Size) -> anyhow::Result<Vec<Measurement>> {
    let labels = Labels::MACHINE;
    let steadily = size.of(30) * u64::from(latency::RATE);
    let mut all = vec![labels.of(POSTS, bare_posts(size).await?, RATE)];
    let receiver = ReceiverProcess::start(Scheme::Http).await?;
    let posted = posts_at(latency::RATE, &receiver, steadily).await?;
    all.extend(latencies(labels, POSTS, &posted));
    if modes.contains(&Mode::Distributed) {
        let setup = Setup::open(Mode::Distributed, SetupOptions::default()).await?;
        let amqp = &setup.deployment.dependencies()?.amqp;
        let relays = relay(amqp, size.of(40_000), None).await?.per_second;
        all.push(labels.of(RELAYS, relays, RATE));
        let relayed = relay(amqp, steadily, Some(latency::RATE)).await?;
        all.extend(latencies(labels, RELAYS, &relayed.latencies));
        setup.close().await?;
    }
    Ok(all)
}

/// The rates with a goal relative to workload a. Both rates are from the same run.
pub fn parts_of_a(run: &[Measurement]) -> Vec<Measurement> {
    let rate = |scenario: &str, mode| {
        let mut all = run.iter().map(|figure| (&figure.row, figure.value));
        all.find(|(row, _)| row.scenario == scenario && row.mode == mode && row.what == DELIVERED)
            .map(|(_, value)| value)
    };
    let deployments = [Some(Mode::Distributed), Some(Mode::Standalone)];
    let parts = deployments
        .into_iter()
        .flat_map(|mode| [("d", 1.0), ("f", 0.8)].map(|(scenario, least)| (scenario, mode, least)));
    parts
        .filter_map(|(scenario, mode, least)| {
            let part = rate(scenario, mode)? / rate("a", mode)?;
            let labels = Labels { scenario, mode };
            Some(labels.to_reach("delivered, as a part of a", part, "", Goal::AtLeast(least)))
        })
        .collect()
}

fn latencies(labels: Labels, of: &str, micros: &[u32]) -> [Measurement; 2] {
    [50, 99].map(|percent| {
        let name = bare_latency(of, &format!("p{percent}"));
        labels.of(name, latency::millis(micros, percent), MILLIS)
    })
}
