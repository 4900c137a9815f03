//! pgbouncer between the services and their database.

use hookline_testkit::deployment::{Deployment, MASTER_KEY, Mode};
use hookline_testkit::pooler::{PoolMode, Pooler};

use super::{BEFORE, DeliveryProbe};
use crate::starting::start::{Cases, Start};

pub(super) async fn a_session_pooler_is_supported(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let mut pooler = Pooler::start(&deployment.dependencies()?.database, PoolMode::Session).await?;
    for service in deployment.services() {
        let url = ("HOOKLINE__STORE__URL", pooler.url.as_str());
        deployment.start_service(service, &[url]).await?;
    }
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    let mut probe = DeliveryProbe::of(&tenant).await?;
    probe.publish(BEFORE).await?;
    probe.recovers().await?;
    // With deliveries under way.
    probe.publish(BEFORE).await?;
    pooler.restart().await?;
    probe.during_fault().await?;
    probe.recovers().await?;
    deployment.end().await
}

pub(super) async fn a_transaction_pooler_is_refused_at_the_start(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let dependencies = deployment.dependencies()?;
    let pooler = Pooler::start(&dependencies.database, PoolMode::Transaction).await?;
    let mut cases = Cases::default();
    for name in ["subscription-api", "ingest", "dispatcher"] {
        let start = Start::of(name, &[])
            .with("HOOKLINE__ADMIN__LISTEN", "127.0.0.1:0")
            .with("HOOKLINE__API__LISTEN", "127.0.0.1:0")
            .with("HOOKLINE__SECRETS__KEYS", MASTER_KEY)
            // The servers are there: a busy machine must not make one look away.
            .with("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "20")
            .with("HOOKLINE__STORE__URL", &pooler.url)
            .with("HOOKLINE__BROKER__URL", &dependencies.amqp);
        cases.add(start, 1, &[&format!("{name}: "), "transaction", "session"]);
    }
    cases.all().await?;
    deployment.end().await
}
