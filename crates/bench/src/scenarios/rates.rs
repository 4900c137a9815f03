//! a, b, f and a with TLS: deliveries per second.

use hookline_testkit::deployment::Mode;

use super::Size;
use crate::cost::Cpu;
use crate::event::Moment;
use crate::measurement::{DELIVERED, Goal, Labels, Measurement, RATE};
use crate::setup::{Setup, SetupOptions, TYPE};

/// The wait of a retry, and also its largest jitter.
const RETRY_SECONDS: f64 = 1.0;

/// The goal for the peak memory of a process, in MiB. The process of the embedded mode contains all services.
const MEMORY: f64 = 64.0;
const MEMORY_OF_ALL: f64 = 128.0;

struct RateLoad<'a> {
    options: SetupOptions<'a>,
    behaviour: &'a str,
    fan_out: u64,
    events: u64,
}

impl RateLoad<'_> {
    /// Each request is answered with 200 at once.
    fn accepted(fan_out: u64, events: u64) -> Self {
        Self {
            options: SetupOptions::default(),
            behaviour: "ok",
            fan_out,
            events,
        }
    }
}

struct Measured {
    deliveries: f64,
    seconds: f64,
    figures: Vec<Measurement>,
}

async fn measure(labels: Labels, mode: Mode, load: RateLoad<'_>) -> anyhow::Result<Measured> {
    let setup = Setup::open(mode, load.options).await?;
    for number in 0..load.fan_out {
        setup
            .subscribe(&format!("{}/{number}", load.behaviour), TYPE)
            .await?;
    }
    setup.warm_up(load.fan_out).await?;
    let owed = load.events * load.fan_out;
    let before = setup.cpu().await?;
    let (published, report) = setup.deliver(&setup.many(0, load.events), owed).await?;
    let mut cpu = minus(setup.cpu().await?, &before);
    cpu.insert("generator".to_owned(), published.cpu);

    let thousands = owed as f64 / 1_000.0;
    let publishing = published.last.seconds_since(published.first);
    let mut all = vec![labels.of("published", load.events as f64 / publishing, RATE)];
    for (name, seconds) in cpu {
        let what = format!("CPU of {name}, 1,000 deliveries");
        all.push(labels.of(what, seconds / thousands, "s"));
    }
    let memory_goal = match mode {
        Mode::Distributed => MEMORY,
        Mode::Standalone => MEMORY_OF_ALL,
    };
    for (name, memory) in setup.memory().await? {
        all.push(labels.to_reach(
            format!("memory of {name}"),
            memory,
            "MiB",
            Goal::AtMost(memory_goal),
        ));
    }
    setup.close().await?;
    let last = report.last.unwrap_or(Moment(0));
    Ok(Measured {
        deliveries: owed as f64,
        seconds: last.seconds_since(published.first),
        figures: all,
    })
}

fn minus(mut after: Cpu, before: &Cpu) -> Cpu {
    for (name, seconds) in &mut after {
        *seconds -= before.get(name).copied().unwrap_or_default();
    }
    after
}

fn goal(mode: Mode, distributed: f64, embedded: f64) -> Goal {
    Goal::AtLeast(match mode {
        Mode::Distributed => distributed,
        Mode::Standalone => embedded,
    })
}

async fn rate(
    labels: Labels,
    mode: Mode,
    load: RateLoad<'_>,
    goal: Option<Goal>,
) -> anyhow::Result<Vec<Measurement>> {
    let Measured {
        deliveries,
        seconds,
        figures: costs,
    } = measure(labels, mode, load).await?;
    let mut rate = labels.of(DELIVERED, deliveries / seconds, RATE);
    rate.row.goal = goal;
    Ok([vec![rate], costs].concat())
}

pub(super) async fn one(
    labels: Labels,
    mode: Mode,
    size: Size,
) -> anyhow::Result<Vec<Measurement>> {
    let load = RateLoad::accepted(1, size.of(20_000));
    rate(labels, mode, load, Some(goal(mode, 5_000.0, 12_000.0))).await
}

pub(super) async fn ten(
    labels: Labels,
    mode: Mode,
    size: Size,
) -> anyhow::Result<Vec<Measurement>> {
    let load = RateLoad::accepted(10, size.of(4_000));
    rate(labels, mode, load, Some(goal(mode, 8_000.0, 20_000.0))).await
}

pub(super) async fn tls(
    labels: Labels,
    mode: Mode,
    size: Size,
) -> anyhow::Result<Vec<Measurement>> {
    let mut load = RateLoad::accepted(1, size.of(20_000));
    load.options.tls = true;
    rate(labels, mode, load, None).await
}

/// The wait before the last retry is no work, so it does not count.
pub(super) async fn failing(
    labels: Labels,
    mode: Mode,
    size: Size,
) -> anyhow::Result<Vec<Measurement>> {
    let options = SetupOptions {
        additional_settings: vec![("HOOKLINE__RETRY__SCHEDULE_SECONDS", "[1,1]")],
        ..SetupOptions::default()
    };
    let load = RateLoad {
        options,
        behaviour: "flaky",
        fan_out: 1,
        events: size.of(40_000),
    };
    let Measured {
        deliveries,
        seconds,
        figures: costs,
    } = measure(labels, mode, load).await?;
    let rate = deliveries / (seconds - RETRY_SECONDS);
    Ok([vec![labels.of(DELIVERED, rate, RATE)], costs].concat())
}
