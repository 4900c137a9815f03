//! h: the cost of the number of subscriptions, apart from their index.

use futures::stream::{StreamExt as _, TryStreamExt as _};
use hookline_testkit::deployment::Mode;

use super::Size;
use crate::event::Moment;
use crate::measurement::{Goal, Labels, Measurement, RATE};
use crate::setup::{Setup, SetupOptions, TYPE, subscription};

const ORGANIZATIONS: u64 = 1_000;
const SUBSCRIPTIONS: [u64; 3] = [1_000, 10_000, 100_000];

/// The event type of all but one subscription of an organization.
const OTHER_TYPE: &str = "workflow.step.failed";

/// Concurrent calls of the API.
const CALLS: usize = 32;

pub(super) async fn run(
    labels: Labels,
    mode: Mode,
    size: Size,
) -> anyhow::Result<Vec<Measurement>> {
    let mut all = Vec::new();
    let mut fewest = None;
    for count in SUBSCRIPTIONS.map(|full| size.of(full).max(ORGANIZATIONS)) {
        let (rate, memory) = measure(mode, count, size.of(20_000)).await?;
        all.push(labels.of(format!("delivered, {count} subscriptions"), rate, RATE));
        for (name, memory) in memory {
            all.push(labels.of(
                format!("memory of {name}, {count} subscriptions"),
                memory,
                "MiB",
            ));
        }
        let fewest = *fewest.get_or_insert(rate);
        if fewest != rate {
            let name = format!("rate with {count}, of that with {}", SUBSCRIPTIONS[0]);
            all.push(labels.to_reach(name, rate / fewest, "", Goal::AtLeast(0.9)));
        }
    }
    Ok(all)
}

async fn measure(
    mode: Mode,
    subscriptions: u64,
    events: u64,
) -> anyhow::Result<(f64, Vec<(String, f64)>)> {
    let organizations = usize::try_from(ORGANIZATIONS)?;
    let setup = Setup::open(
        mode,
        SetupOptions {
            organizations,
            ..SetupOptions::default()
        },
    )
    .await?;
    let owners = &setup.many(0, 0).organizations;
    let url = setup.receiver.url("ok/0");
    futures::stream::iter(0..subscriptions)
        .map(|number| {
            let event_type = match number < ORGANIZATIONS {
                true => TYPE,
                false => OTHER_TYPE,
            };
            let owner = &owners[usize::try_from(number % ORGANIZATIONS).unwrap_or_default()];
            let (client, body) = (
                setup.client.in_organization(owner),
                subscription(&url, event_type),
            );
            async move { client.subscribe(&body).await }
        })
        .buffer_unordered(CALLS)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    setup.warm_up(1).await?;
    let (published, report) = setup.deliver(&setup.many(0, events), events).await?;
    let memory = setup.memory().await?.into_iter().collect();
    setup.close().await?;
    let last = report.last.unwrap_or(Moment(0));
    Ok((events as f64 / last.seconds_since(published.first), memory))
}
