//! g: the gain of more dispatchers when slow receivers limit the rate.

use hookline_testkit::deployment::{Mode, Service};

use super::Size;
use crate::event::Moment;
use crate::measurement::{Goal, Labels, Measurement, RATE};
use crate::setup::{Setup, SetupOptions, TYPE};

const DISPATCHERS: [u64; 3] = [1, 2, 4];

/// Subscriptions, each with a receiver that takes half a second.
const SUBSCRIPTIONS: u64 = 20;

/// The goal: twice as many dispatchers raise the rate by this factor.
const GROWTH: f64 = 1.9;

pub(super) async fn run(labels: Labels, size: Size) -> anyhow::Result<Vec<Measurement>> {
    let mut all = Vec::new();
    let mut before = None;
    for dispatchers in DISPATCHERS {
        let rate = measure(dispatchers, size.of(250) * dispatchers).await?;
        all.push(labels.of(
            format!("delivered, {dispatchers} dispatcher(s)"),
            rate,
            RATE,
        ));
        if let Some(before) = before {
            let name = format!("growth to {dispatchers} dispatchers");
            all.push(labels.to_reach(name, rate / before, "×", Goal::AtLeast(GROWTH)));
        }
        before = Some(rate);
    }
    Ok(all)
}

async fn measure(dispatchers: u64, events: u64) -> anyhow::Result<f64> {
    let setup = Setup::open(Mode::Distributed, SetupOptions::default()).await?;
    for _ in 1..dispatchers {
        setup
            .deployment
            .start_service(Service::Dispatcher, &[])
            .await?;
    }
    setup.deployment.wait_ready().await?;
    for number in 0..SUBSCRIPTIONS {
        setup.subscribe(&format!("late/500/{number}"), TYPE).await?;
    }
    setup.warm_up(SUBSCRIPTIONS).await?;
    let owed = events * SUBSCRIPTIONS;
    let (published, report) = setup.deliver(&setup.many(0, events), owed).await?;
    setup.close().await?;
    let last = report.last.unwrap_or(Moment(0));
    Ok(owed as f64 / last.seconds_since(published.first))
}
