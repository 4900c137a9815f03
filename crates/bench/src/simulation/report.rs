//! The reported scenes: the same load for each dispatcher, the same load in total, and an endpoint dead for ten
//! minutes.

use std::path::Path;
use std::time::Duration;

use super::measured::SimulationResult;
use super::plot::{Runs, draw};
use super::scenario::{
    OUTAGE, Order, PUBLISHED, SLOTS, SimulationLoad, SimulationScenario, TO_DEAD,
};
use super::simulate;
use super::table::{Dead, Fairness};

const MANY: usize = 1_000;

/// Messages to bad endpoints would need 1.4 times the existing slots.
const LOAD: SimulationLoad = SimulationLoad {
    healthy: 12.0,
    slow: 5.0,
    hanging: 16.0,
    tenant: 8.0,
    dead: 0.2,
};

/// Simulates all scenes, writes `fairness-1000.svg` into a folder and returns the tables as Markdown.
///
/// # Errors
/// If the plot cannot be written, or a delivery was lost.
pub fn run(out: &Path) -> anyhow::Result<String> {
    let same_each = same_load_for_each(out)?;
    let same_all = same_load_for_all()?;
    let dead = dead_for_ten_minutes()?;
    Ok(format!(
        "The same load for each dispatcher:\n\n{same_each}\n\nThe same load for all together:\n\n\
         {same_all}\n\nOne dead endpoint and nothing else:\n\n{dead}\n"
    ))
}

fn same_load_for_each(out: &Path) -> anyhow::Result<String> {
    let mut table = Fairness::new();
    let (mut with_bad, mut without_bad) =
        (SimulationResult::default(), SimulationResult::default());
    for dispatchers in [1, 10, 100, MANY] {
        let name = format!("{dispatchers}, no bad ones");
        without_bad = simulated(&scenario(dispatchers, LOAD.without_bad()))?;
        table.add(&name, dispatchers, &without_bad);
        with_bad = simulated(&scenario(dispatchers, LOAD))?;
        table.add(&dispatchers.to_string(), dispatchers, &with_bad);
    }
    let one_queue = simulated(&SimulationScenario {
        order: Order::OneQueue,
        ..scenario(MANY, LOAD)
    })?;
    table.add("1000, no lanes", MANY, &one_queue);
    draw(
        &Runs {
            with_bad: &with_bad,
            without_bad: &without_bad,
            one_queue: &one_queue,
            seconds: 100,
            outage: OUTAGE,
            title: "1,000 dispatchers, simulated",
        },
        &out.join("fairness-1000.svg"),
    )?;
    drop((with_bad, without_bad, one_queue));
    let outage = SimulationScenario {
        hanging: 2_000,
        ..scenario(MANY, LOAD)
    };
    table.add("1000, 2,000 hang at once", MANY, &simulated(&outage)?);
    Ok(table.to_string())
}

fn same_load_for_all() -> anyhow::Result<String> {
    let mut table = Fairness::new();
    for dispatchers in [100, 300, MANY] {
        let load = LOAD.times(100.0 / dispatchers as f64);
        let run = simulated(&scenario(dispatchers, load))?;
        table.add(&dispatchers.to_string(), dispatchers, &run);
    }
    Ok(table.to_string())
}

fn dead_for_ten_minutes() -> anyhow::Result<String> {
    let mut table = Dead::new();
    for dispatchers in [1, 10, 100, MANY] {
        let load = SimulationLoad {
            dead: TO_DEAD,
            ..LOAD.times(0.0)
        };
        let minutes = Duration::from_secs(600);
        let run = simulated(&SimulationScenario {
            published_for: minutes,
            outage: Duration::ZERO..minutes,
            ..scenario(dispatchers, load)
        })?;
        table.add(dispatchers, &run);
    }
    Ok(table.to_string())
}

fn simulated(scenario: &SimulationScenario) -> anyhow::Result<SimulationResult> {
    let run = simulate(scenario);
    let lost = run.published - run.delivered - run.exhausted;
    anyhow::ensure!(
        lost == 0,
        "{lost} deliveries of {} were lost",
        run.published
    );
    Ok(run)
}

fn scenario(dispatchers: usize, load: SimulationLoad) -> SimulationScenario {
    let seconds = |count: usize| Duration::from_secs(count as u64);
    SimulationScenario {
        dispatchers,
        slots: SLOTS,
        room: 768,
        order: Order::Scheduler,
        load,
        hanging: 200,
        published_for: seconds(PUBLISHED),
        outage: seconds(OUTAGE.start)..seconds(OUTAGE.end),
        seed: 1,
    }
}
