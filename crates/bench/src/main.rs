//! `make bench` runs the workloads. The same program is also each process that a workload needs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use hookline_bench::baseline::{Post, Relay};
use hookline_bench::measurement::{Measurement, summarize};
use hookline_bench::publisher::Publish;
use hookline_bench::receiver::Receive;
use hookline_bench::report::Findings;
use hookline_bench::scenarios::{Scenario, Size, parts_of_a, raw};
use hookline_bench::versions;
use hookline_testkit::deployment::Mode;

/// Measures Hookline on this machine
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run workloads and print the table
    Run(Run),
    /// A thousand dispatchers in virtual time: print the tables, draw the plot
    Simulate {
        /// The folder of the plot
        #[arg(long, default_value = "target/bench")]
        out: PathBuf,
    },
    #[command(hide = true)]
    Receive(Receive),
    #[command(hide = true)]
    Publish(Publish),
    #[command(hide = true)]
    Post(Post),
    #[command(hide = true)]
    Relay(Relay),
}

#[derive(Debug, clap::Args)]
struct Run {
    /// The mode: distributed, embedded or both
    #[arg(long, value_enum, default_value = "both")]
    on: On,
    /// The workloads; all by default
    #[arg(long, value_enum, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Runs of each workload
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// The factor of each workload's size
    #[arg(long, default_value_t = 1.0)]
    size: f64,
    /// The folder of the results
    #[arg(long, default_value = "target/bench", overrides_with = "out")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum On {
    Distributed,
    Embedded,
    Both,
}

fn main() -> anyhow::Result<ExitCode> {
    // Each task uses HTTP, so ring is installed before the first TLS client or server.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let task = Arguments::parse().task;
    if let Task::Receive(receive) = task {
        receive.run()?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match task {
            Task::Run(run) => run.run().await?,
            Task::Publish(publish) => publish.run().await?,
            Task::Post(post) => post.run().await?,
            Task::Relay(relay) => relay.run().await?,
            Task::Simulate { out } => {
                std::fs::create_dir_all(&out)?;
                println!("{}", hookline_bench::simulation::run(&out)?);
            }
            Task::Receive(_) => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

impl Run {
    async fn run(self) -> anyhow::Result<()> {
        let modes = match self.on {
            On::Distributed => vec![Mode::Distributed],
            On::Embedded => vec![Mode::Standalone],
            On::Both => vec![Mode::Distributed, Mode::Standalone],
        };
        let scenarios = match self.scenario.is_empty() {
            true => Scenario::value_variants().to_vec(),
            false => self.scenario.clone(),
        };
        let size = Size(self.size);
        let mut figures = Vec::new();
        // A failed workload does not discard the results of the others, which take minutes.
        let mut failed = 0;
        for run in 1..=self.runs {
            eprintln!(
                "bench: run {run} of {}: what the machine does without us",
                self.runs
            );
            let mut found: Vec<Measurement> = raw(&modes, size).await?;
            for scenario in &scenarios {
                for mode in modes.iter().filter(|mode| scenario.is_of(**mode)) {
                    let letter = scenario.letter();
                    let some = match scenario.run(*mode, size).await {
                        Ok(some) => some,
                        Err(why) => {
                            eprintln!("bench: run {run}: {letter} {mode:?} FAILED: {why:#}");
                            failed += 1;
                            continue;
                        }
                    };
                    if let Some(first) = some.first() {
                        let unit = first.row.unit;
                        eprintln!(
                            "bench: run {run}: {letter} {mode:?}: {} {:.1} {unit}",
                            first.row.what, first.value
                        );
                    }
                    found.extend(some);
                }
            }
            figures.extend(parts_of_a(&found));
            figures.extend(found);
        }
        let findings = Findings {
            versions: versions::all().await?,
            figures: summarize(figures),
        };
        findings.write(&self.out)?;
        for version in &findings.versions {
            println!("{version}");
        }
        println!("\n{}", findings.table());
        anyhow::ensure!(failed == 0, "{failed} measurements failed");
        Ok(())
    }
}
