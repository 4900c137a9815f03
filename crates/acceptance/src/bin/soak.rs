//! `make soak`: fairness for minutes, with the figures. `soak [ON] [SECONDS] [BACKLOG] [BESIDE]`,
//! where ON is `distributed`, `two` (dispatchers), `embedded` or `all`, and BESIDE is `three`,
//! `fifty`, `backlog`, `flood` (of one organization's events) or `all`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use hookline_acceptance::soak::{Bad, Cast, Flood, Rule, Trial};
use hookline_testkit::deployment::Kind;

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let on = arguments.next().unwrap_or_else(|| "all".to_owned());
    let duration = arguments.next().unwrap_or_else(|| "180s".to_owned());
    let duration = Duration::from_secs(duration.trim_end_matches('s').parse()?);
    let backlog: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let beside = arguments.next().unwrap_or_else(|| "all".to_owned());
    let scenes = match &*beside {
        "three" => vec![Bad::ThreeOfTen],
        "fifty" => vec![Bad::FiftyBehindOneHost],
        "backlog" => vec![Bad::Backlog(backlog)],
        "flood" => Vec::new(),
        "all" => vec![
            Bad::ThreeOfTen,
            Bad::FiftyBehindOneHost,
            Bad::Backlog(backlog),
        ],
        other => bail!("no such scene: {other}; there are three, fifty, backlog, flood and all"),
    };
    let casts: &[(Kind, usize)] = match &*on {
        "distributed" => &[(Kind::Distributed, 1)],
        "two" => &[(Kind::Distributed, 2)],
        "embedded" => &[(Kind::Embedded, 1)],
        "all" => &[
            (Kind::Distributed, 1),
            (Kind::Distributed, 2),
            (Kind::Embedded, 1),
        ],
        other => bail!("no such home: {other}; there are distributed, two, embedded and all"),
    };
    // The product and this program both speak HTTP; the first of them to run chooses ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut passed = true;
    for &(kind, dispatchers) in casts {
        for &bad in &scenes {
            if bad == Bad::Backlog(0) {
                continue;
            }
            let trial = Trial {
                cast: Cast {
                    kind,
                    dispatchers,
                    slots: 64 / dispatchers,
                    deadline: Duration::from_secs(15),
                },
                bad,
                rate: 200,
                duration,
                rule: Rule::Strict,
                patience: Duration::from_secs(120),
            };
            passed &= runtime.block_on(trial.run())?.passed;
            println!();
        }
        // The rate limits of a flood act before the dispatchers: one cast for each home is enough.
        if matches!(&*beside, "flood" | "all") && dispatchers == 1 {
            passed &= runtime.block_on(flood(kind, duration))?;
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
/// rule says.
async fn flood(kind: Kind, lasts: Duration) -> anyhow::Result<bool> {
    println!("{kind:?}: one organization publishes 50 times more than it may");
    let flood = Flood::prepare(kind, lasts).await?;
    let found = flood.come().await?;
    flood.home.end().await?;
    let fair = [&found.without, &found.allowed]
        .into_iter()
        .all(|before| Rule::Strict.holds(before, &found.with));
    println!("{}", if fair { "pass" } else { "FAIL" });
    Ok(fair)
}
