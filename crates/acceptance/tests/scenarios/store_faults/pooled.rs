//! pgbouncer between the services and their database.

use hookline_testkit::deployment::{Home, Kind, MASTER_KEY};
use hookline_testkit::pooler::{PoolMode, Pooler};

use super::{BEFORE, Witness};
use crate::starting::start::{Cases, Start};

pub(super) async fn behind_a_session_pooler_everything_works(kind: Kind) -> anyhow::Result<()> {
    let home = Home::prepare(kind, &[]).await?;
    let mut pooler = Pooler::before(&home.peers()?.database, PoolMode::Session).await?;
    for part in home.parts() {
        let url = ("HOOKLINE__STORE__URL", pooler.url.as_str());
        home.start_part(part, &[url]).await?;
    }
    home.wait_ready().await?;
    let tenant = home.tenant().await?;
    let mut witness = Witness::of(&tenant).await?;
    witness.publish(BEFORE).await?;
    witness.goes_on().await?;
    // With deliveries under way.
    witness.publish(BEFORE).await?;
    pooler.restart().await?;
    witness.meanwhile().await?;
    witness.goes_on().await?;
    home.end().await
}

pub(super) async fn a_transaction_pooler_is_refused_at_the_start(kind: Kind) -> anyhow::Result<()> {
    let home = Home::prepare(kind, &[]).await?;
    let peers = home.peers()?;
    let pooler = Pooler::before(&peers.database, PoolMode::Transaction).await?;
    let mut cases = Cases::default();
    for name in ["subscription-api", "ingest", "dispatcher"] {
        let start = Start::of(name, &[])
            .with("HOOKLINE__ADMIN__LISTEN", "127.0.0.1:0")
            .with("HOOKLINE__API__LISTEN", "127.0.0.1:0")
            .with("HOOKLINE__SECRETS__KEYS", MASTER_KEY)
            // The servers are there: a busy machine must not make one look away.
            .with("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "20")
            .with("HOOKLINE__STORE__URL", &pooler.url)
            .with("HOOKLINE__BROKER__URL", &peers.amqp);
        cases.add(start, 1, &[&format!("{name}: "), "transaction", "session"]);
    }
    cases.all().await?;
    home.end().await
}
