//! Flood: an organization publishes far too much, and the cost to others is measured.

use std::time::Duration;

use anyhow::ensure;
use hookline_acceptance::soak::{Flood, Flooded, Rule, distinct};
use hookline_testkit::deployment::Kind;
use hookline_testkit::waiting::until;

use super::Waiting;

const LASTS: Duration = Duration::from_secs(8);

pub(super) async fn who_publishes_fifty_times_too_much_costs_others_nothing(
    kind: Kind,
) -> anyhow::Result<()> {
    let flood = Flood::prepare(kind, LASTS).await?;
    let Flooded {
        without,
        allowed,
        with,
        taken,
        receiver,
    } = flood.come().await?;
    for before in [&without, &allowed] {
        ensure!(Rule::Rough.holds(before, &with), "{before}; then {with}");
    }
    match kind {
        Kind::Embedded => drop(receiver.wait_for(taken).await?),
        // The rest would come for minutes: it is all there.
        Kind::Distributed => {
            let waiting = until("every event delivered or waiting", async || {
                let waiting = Waiting::seen(&flood.home.peers()?.amqp).await?;
                let all = distinct(&receiver)? + waiting.events >= taken;
                Ok(all.then_some(waiting))
            })
            .await?;
            println!("{waiting:?}");
            // A message for each would cost others what their publishing did once more.
            ensure!(10 * waiting.messages < waiting.events, "{waiting:?}");
        }
    }
    flood.home.end().await
}
