//! a, b, f and a with TLS: deliveries per second.

use hookline_testkit::deployment::Kind;

use super::Size;
use crate::cost::Cpu;
use crate::event::Moment;
use crate::measurement::{DELIVERED, Figure, Figures, Goal, RATE};
use crate::setup::{Setting, Stage, TYPE};

/// The wait of a retry, and also its largest jitter.
const RETRY_SECONDS: f64 = 1.0;

/// The goal for the peak memory of a process, in MiB. The process of the embedded mode contains all services.
const MEMORY: f64 = 64.0;
const MEMORY_OF_ALL: f64 = 128.0;

struct Load<'a> {
    setting: Setting<'a>,
    manner: &'a str,
    fan_out: u64,
    events: u64,
}

struct Measured {
    deliveries: f64,
    seconds: f64,
    figures: Vec<Figure>,
}

async fn measure(figures: Figures, kind: Kind, load: Load<'_>) -> anyhow::Result<Measured> {
    let stage = Stage::open(kind, load.setting).await?;
    for number in 0..load.fan_out {
        stage
            .subscribe(&format!("{}/{number}", load.manner), TYPE)
            .await?;
    }
    stage.warm_up(load.fan_out).await?;
    let owed = load.events * load.fan_out;
    let before = stage.cpu().await?;
    let (published, report) = stage.deliver(&stage.many(0, load.events), owed).await?;
    let mut cpu = minus(stage.cpu().await?, &before);
    cpu.insert("generator".to_owned(), published.cpu);

    let thousands = owed as f64 / 1_000.0;
    let publishing = published.last.seconds_since(published.first);
    let mut all = vec![figures.of("published", load.events as f64 / publishing, RATE)];
    for (name, seconds) in cpu {
        let what = format!("CPU of {name}, 1,000 deliveries");
        all.push(figures.of(what, seconds / thousands, "s"));
    }
    let memory_goal = match kind {
        Kind::Distributed => MEMORY,
        Kind::Embedded => MEMORY_OF_ALL,
    };
    for (name, memory) in stage.memory().await? {
        all.push(figures.to_reach(
            format!("memory of {name}"),
            memory,
            "MiB",
            Goal::AtMost(memory_goal),
        ));
    }
    stage.close().await?;
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

fn goal(kind: Kind, distributed: f64, embedded: f64) -> Goal {
    Goal::AtLeast(match kind {
        Kind::Distributed => distributed,
        Kind::Embedded => embedded,
    })
}

async fn rate(
    figures: Figures,
    kind: Kind,
    load: Load<'_>,
    goal: Option<Goal>,
) -> anyhow::Result<Vec<Figure>> {
    let Measured {
        deliveries,
        seconds,
        figures: costs,
    } = measure(figures, kind, load).await?;
    let mut rate = figures.of(DELIVERED, deliveries / seconds, RATE);
    rate.row.goal = goal;
    Ok([vec![rate], costs].concat())
}

pub(super) async fn one(figures: Figures, kind: Kind, size: Size) -> anyhow::Result<Vec<Figure>> {
    let load = Load {
        setting: Setting::default(),
        manner: "ok",
        fan_out: 1,
        events: size.of(20_000),
    };
    rate(figures, kind, load, Some(goal(kind, 5_000.0, 12_000.0))).await
}

pub(super) async fn ten(figures: Figures, kind: Kind, size: Size) -> anyhow::Result<Vec<Figure>> {
    let load = Load {
        setting: Setting::default(),
        manner: "ok",
        fan_out: 10,
        events: size.of(4_000),
    };
    rate(figures, kind, load, Some(goal(kind, 8_000.0, 20_000.0))).await
}

pub(super) async fn tls(figures: Figures, kind: Kind, size: Size) -> anyhow::Result<Vec<Figure>> {
    let setting = Setting {
        tls: true,
        ..Setting::default()
    };
    rate(
        figures,
        kind,
        Load {
            setting,
            manner: "ok",
            fan_out: 1,
            events: size.of(20_000),
        },
        None,
    )
    .await
}

/// The wait before the last retry is no work, so it does not count.
pub(super) async fn failing(
    figures: Figures,
    kind: Kind,
    size: Size,
) -> anyhow::Result<Vec<Figure>> {
    let setting = Setting {
        besides: vec![("HOOKLINE__RETRY__SCHEDULE_SECONDS", "[1,1]")],
        ..Setting::default()
    };
    let load = Load {
        setting,
        manner: "flaky",
        fan_out: 1,
        events: size.of(40_000),
    };
    let Measured {
        deliveries,
        seconds,
        figures: costs,
    } = measure(figures, kind, load).await?;
    let rate = deliveries / (seconds - RETRY_SECONDS);
    Ok([vec![figures.of(DELIVERED, rate, RATE)], costs].concat())
}
