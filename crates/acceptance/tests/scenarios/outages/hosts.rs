//! A cluster of brokers, some of which are away.

use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::managed_process::free_port;
use hookline_testkit::proxy::Link;
use hookline_testkit::receiver::Receiver;

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![one_reachable_broker_host_is_enough_at_start_and_after_a_failure]
}

async fn one_reachable_broker_host_is_enough_at_start_and_after_a_failure(
    mode: Mode,
) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let dependencies = deployment.dependencies()?;
    let url = dependencies.broker_of_three_hosts(free_port()?)?;
    let several = [("HOOKLINE__BROKER__URL", url.as_str())];
    for service in deployment.services() {
        deployment.start_service(service, &several).await?;
    }
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    tenant.publish_one("workflow.completed").await?;
    receiver.wait_for(1).await?;

    dependencies.rabbitmq.set(Link::Cut);
    deployment.wait_ready().await?;
    tenant.publish_one("workflow.completed").await?;
    receiver.wait_for(2).await?;
    deployment.end().await
}
