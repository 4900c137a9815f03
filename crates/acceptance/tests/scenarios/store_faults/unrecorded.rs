//! The store takes events and lists due deliveries, and takes no attempts. Requests then stop: outcomes that wait to be
//! recorded are bounded, and so is the number of requests that a crash would repeat.

use std::time::Duration;

use anyhow::ensure;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, distinct};
use hookline_testkit::waiting::until;
use serde_json::json;
use tokio::time::sleep;

const EVENTS: usize = 4_000;

const FAULT_DURATION: Duration = Duration::from_secs(10);

/// Longer than the fault: after a timeout the next batch would be tried.
const STATEMENT_TIMEOUT: (&str, &str) = ("HOOKLINE__STORE__STATEMENT_TIMEOUT_MS", "30000");

/// The batch that is being recorded (1,024), the outcomes that wait (2,048), and the requests in flight (256).
const MOST_REQUESTS: usize = 1_024 + 2_048 + 256;

/// 32 times `dispatcher.prefetch`, and what is taken at once.
const MOST_IN_HAND: usize = 32 * 32 + 1_024;

pub(super) async fn requests_stop_while_attempts_cannot_be_recorded(
    mode: Mode,
) -> anyhow::Result<()> {
    let prepared = Prepared::start(mode).await?;
    let seconds = FAULT_DURATION.as_secs();
    let lock = format!(
        "DO $$ BEGIN LOCK TABLE attempts IN EXCLUSIVE MODE; PERFORM pg_sleep({seconds}); END $$"
    );
    tokio::try_join!(prepared.deployment.dependencies()?.sql(&lock), async {
        sleep(Duration::from_millis(200)).await;
        prepared.start_dispatcher(&[STATEMENT_TIMEOUT]).await
    })?;
    prepared.ends_well(MOST_REQUESTS).await
}

/// Each try fails at once, so that the next batch is tried.
pub(super) async fn requests_stop_while_attempts_are_refused(mode: Mode) -> anyhow::Result<()> {
    let prepared = Prepared::start(mode).await?;
    let dependencies = prepared.deployment.dependencies()?;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                  $$ BEGIN RAISE EXCEPTION 'no attempt is taken'; END $$;
                  CREATE TRIGGER refuse BEFORE INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION refuse()";
    dependencies.sql(refuse).await?;
    let settings = [
        ("HOOKLINE__DISPATCHER__SLOTS", "16"),
        ("HOOKLINE__DISPATCHER__PREFETCH", "32"),
    ];
    prepared.start_dispatcher(&settings).await?;
    prepared.receiver.wait_for(1).await?;
    sleep(FAULT_DURATION).await;
    // Without a lock on the tables: to drop the trigger would take those of all days.
    let take = "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RETURN NEW; END $$";
    dependencies.sql(take).await?;
    prepared.ends_well(MOST_IN_HAND).await
}

/// A deployment with due deliveries to a healthy receiver, and without a dispatcher.
struct Prepared {
    deployment: Deployment,
    receiver: Receiver,
}

impl Prepared {
    async fn start(mode: Mode) -> anyhow::Result<Self> {
        let deployment = Deployment::start(mode).await?;
        let tenant = deployment.tenant().await?;
        let receiver = Receiver::healthy()?;
        tenant.subscribe(&receiver, &["workflow.started"]).await?;
        deployment.stop(Service::Dispatcher).await?;
        for events in tenant.events("workflow.started", EVENTS).chunks(500) {
            let answer = tenant.client.post("/events", &json!(events)).await?;
            answer.expect(202)?;
        }
        let dependencies = deployment.dependencies()?;
        until("a row for each event", async || {
            let rows = dependencies.sql("SELECT count(*) FROM deliveries").await?;
            Ok((rows == EVENTS.to_string()).then_some(()))
        })
        .await?;
        Ok(Self {
            deployment,
            receiver,
        })
    }

    async fn start_dispatcher(&self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let dispatcher = Service::Dispatcher;
        self.deployment.start_service(dispatcher, settings).await
    }

    /// At the end of the fault.
    async fn ends_well(self, most_requests: usize) -> anyhow::Result<()> {
        let requests = self.receiver.deliveries();
        println!("{requests} requests while attempts could not be recorded");
        ensure!(requests <= most_requests, "{requests} requests");
        self.receiver.wait_for(EVENTS).await?;
        until("each delivery", async || {
            Ok((distinct(&self.receiver.received()).len() == EVENTS).then_some(()))
        })
        .await?;
        self.deployment.end().await
    }
}
