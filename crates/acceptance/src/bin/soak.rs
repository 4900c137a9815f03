//! `make soak`: fairness for minutes, with the figures. `soak [ON] [SECONDS] [BACKLOG] [BESIDE]`,
//! where ON is `distributed`, `two` (dispatchers), `embedded` or `all`, and BESIDE is `three`,
//! `fifty`, `backlog`, `flood` (of one organization's events) or `all`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use hookline_acceptance::soak::{BadReceivers, FairnessRun, FairnessSetup, Flood, LatencyBound};
use hookline_testkit::deployment::Mode;

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let on = arguments.next().unwrap_or_else(|| "all".to_owned());
    let duration = arguments.next().unwrap_or_else(|| "180s".to_owned());
    let duration = Duration::from_secs(duration.trim_end_matches('s').parse()?);
    let backlog: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let scenario = arguments.next().unwrap_or_else(|| "all".to_owned());
    let scenarios = match &*scenario {
        "three" => vec![BadReceivers::ThreeOfTen],
        "fifty" => vec![BadReceivers::FiftyBehindOneHost],
        "backlog" => vec![BadReceivers::Backlog(backlog)],
        "flood" => Vec::new(),
        "all" => vec![
            BadReceivers::ThreeOfTen,
            BadReceivers::FiftyBehindOneHost,
            BadReceivers::Backlog(backlog),
        ],
        other => bail!("no such scene: {other}; there are three, fifty, backlog, flood and all"),
    };
    let setups: &[(Mode, usize)] = match &*on {
        "distributed" => &[(Mode::Distributed, 1)],
        "two" => &[(Mode::Distributed, 2)],
        "embedded" => &[(Mode::Standalone, 1)],
        "all" => &[
            (Mode::Distributed, 1),
            (Mode::Distributed, 2),
            (Mode::Standalone, 1),
        ],
        other => bail!("no such deployment: {other}; there are distributed, two, embedded and all"),
    };
    // The product and this program both speak HTTP; the first of them to run chooses ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut passed = true;
    for &(mode, dispatchers) in setups {
        for &bad in &scenarios {
            if bad == BadReceivers::Backlog(0) {
                continue;
            }
            let run = FairnessRun {
                setup: FairnessSetup {
                    mode,
                    dispatchers,
                    slots: 64 / dispatchers,
                    deadline: Duration::from_secs(15),
                },
                bad,
                rate: 200,
                duration,
                bound: LatencyBound::Strict,
                patience: Duration::from_secs(120),
            };
            passed &= runtime.block_on(run.run())?.passed;
            println!();
        }
        // The rate limits of a flood act before the dispatchers: one setup for each deployment is enough.
        if matches!(&*scenario, "flood" | "all") && dispatchers == 1 {
            passed &= runtime.block_on(flood(mode, duration))?;
            println!();
        }
    }
    println!("{}", if passed { "pass" } else { "FAIL" });
    Ok(match passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Whether one organization that publishes 50 times more than it may costs another no more than the
/// bound allows.
async fn flood(mode: Mode, duration: Duration) -> anyhow::Result<bool> {
    println!("{mode:?}: one organization publishes 50 times more than it may");
    let flood = Flood::prepare(mode, duration).await?;
    let found = flood.run().await?;
    flood.deployment.end().await?;
    let fair = [&found.without, &found.allowed]
        .into_iter()
        .all(|before| LatencyBound::Strict.holds(before, &found.with));
    println!("{}", if fair { "pass" } else { "FAIL" });
    Ok(fair)
}
