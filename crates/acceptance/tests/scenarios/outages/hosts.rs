//! A cluster of brokers, some of which are away.

use hookline_acceptance::sentences;
use hookline_acceptance::suite::Alone;
use hookline_testkit::deployment::{Home, Kind};
use hookline_testkit::managed_process::free_port;
use hookline_testkit::proxy::Wire;
use hookline_testkit::receiver::Receiver;

pub(crate) fn distributed() -> Vec<Alone> {
    sentences![one_host_of_several_is_enough_at_the_start_and_when_another_dies]
}

async fn one_host_of_several_is_enough_at_the_start_and_when_another_dies(
    kind: Kind,
) -> anyhow::Result<()> {
    let home = Home::prepare(kind, &[]).await?;
    let peers = home.peers()?;
    let url = peers.broker_of_three_hosts(free_port()?)?;
    let several = [("HOOKLINE__BROKER__URL", url.as_str())];
    for part in home.parts() {
        home.start_part(part, &several).await?;
    }
    home.wait_ready().await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    tenant.publish_one("workflow.completed").await?;
    receiver.wait_for(1).await?;

    peers.rabbitmq.set(Wire::Cut);
    home.wait_ready().await?;
    tenant.publish_one("workflow.completed").await?;
    receiver.wait_for(2).await?;
    home.end().await
}
