//! Flood: an organization publishes far too much, and the cost to others is measured.

use std::time::Duration;

use anyhow::ensure;
use hookline_acceptance::soak::{Flood, FloodResult, LatencyBound};
use hookline_testkit::deployment::Mode;
use hookline_testkit::waiting::until;

use super::Waiting;

const FLOOD_DURATION: Duration = Duration::from_secs(8);

pub(super) async fn publishing_at_fifty_times_the_limit_does_not_slow_others(
    mode: Mode,
) -> anyhow::Result<()> {
    let flood = Flood::prepare(mode, FLOOD_DURATION).await?;
    let FloodResult {
        without,
        allowed,
        with,
        taken,
        receiver,
    } = flood.run().await?;
    for before in [&without, &allowed] {
        ensure!(
            LatencyBound::Rough.holds(before, &with),
            "{before}; then {with}"
        );
    }
    match mode {
        Mode::Standalone => drop(receiver.wait_for(taken).await?),
        // The rest would come for minutes: it is all there.
        Mode::Distributed => {
            let waiting = until("every event delivered or waiting", async || {
                let waiting = Waiting::seen(&flood.deployment.dependencies()?.amqp).await?;
                let all = receiver.deliveries() + waiting.events >= taken;
                Ok(all.then_some(waiting))
            })
            .await?;
            println!("{waiting:?}");
            // A message for each would cost others what their publishing did once more.
            ensure!(10 * waiting.messages < waiting.events, "{waiting:?}");
        }
    }
    flood.deployment.end().await
}
