//! `make chaos`: crash safety, tried out for as long as you like.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use hookline_acceptance::chaos::plan::Plan;
use hookline_acceptance::chaos::report::Report;
use hookline_acceptance::chaos::run;
use hookline_acceptance::chaos::scenario::{FaultKind, Scenario};
use hookline_testkit::small_disk;

/// Kills, freezes and stops the parts of a deployment under load, and says whether anything was lost.
#[derive(Debug, Parser)]
struct Arguments {
    /// The seed of the random numbers; another each time when it is left out
    #[arg(long)]
    seed: Option<u64>,

    /// How long there is load, such as 30s or 10m
    #[arg(long, default_value = "60s", value_parser = duration)]
    duration: Duration,

    /// What is tried
    #[arg(long = "scene", value_enum, default_value = "all")]
    scenario: ScenarioArgument,

    /// Events that are published each second, in each way that a deployment has
    #[arg(long, default_value_t = 40)]
    rate: u32,

    /// Dispatchers of a distributed deployment
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=8))]
    dispatchers: u16,

    /// Of N wake-ups of each process drop one, all the time; 1 drops all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    drop_wake_ups: Option<u8>,

    /// Faults of this kind alone, on a distributed or a standalone deployment
    #[arg(long = "acts", value_enum)]
    faults: Option<FaultKind>,

    /// Write a report to FILE, as Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScenarioArgument {
    /// Three services with PostgreSQL and RabbitMQ
    Distributed,
    /// The same with a RabbitMQ of three nodes
    Cluster,
    /// `hookline serve`
    Embedded,
    /// `hookline serve` on a disk that fills up
    FullDisk,
    /// All of them, one after the other
    All,
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 60),
        _ => (text, 1),
    };
    match number.parse::<u32>() {
        Ok(number @ 1..) => Ok(Duration::from_secs(u64::from(number) * seconds)),
        _ => Err("say how long, such as 30s or 10m".to_owned()),
    }
}

impl ScenarioArgument {
    fn scenarios(self) -> &'static [Scenario] {
        match self {
            ScenarioArgument::Distributed => &[Scenario::Distributed],
            ScenarioArgument::Cluster => &[Scenario::Cluster],
            ScenarioArgument::Embedded => &[Scenario::Standalone],
            ScenarioArgument::FullDisk => &[Scenario::FullDisk],
            ScenarioArgument::All => &[
                Scenario::Distributed,
                Scenario::Cluster,
                Scenario::Standalone,
                Scenario::FullDisk,
            ],
        }
    }
}

/// The small disk is in memory, so it is small: a long load would fill it for good.
const UNTIL_REALLY_FULL: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // The product and this program both speak HTTP; the first of them to run chooses ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let seed = arguments
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let mut reports = Vec::new();
    for &scenario in arguments.scenario.scenarios() {
        if scenario == Scenario::FullDisk
            && let Some(why) = small_disk::missing_requirement()
        {
            println!("chaos: a full disk was NOT TRIED: {why}");
            continue;
        }
        let report = run(Plan {
            seed,
            scenario,
            length: match scenario {
                Scenario::FullDisk => arguments.duration.min(UNTIL_REALLY_FULL),
                _ => arguments.duration,
            },
            rate: arguments.rate,
            dispatchers: arguments.dispatchers.into(),
            drop_wake_ups: arguments.drop_wake_ups,
            only: arguments.faults,
        })
        .await?;
        for problem in &report.all_problems() {
            eprintln!("chaos: {problem}");
        }
        println!("{}", report.line());
        reports.push(report);
    }
    if let Some(file) = &arguments.report {
        let pages: Vec<String> = reports.iter().map(Report::page).collect();
        std::fs::write(file, pages.join("\n"))?;
    }
    match reports.iter().all(Report::is_good) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}
