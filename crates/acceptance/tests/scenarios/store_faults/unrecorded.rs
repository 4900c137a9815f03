//! The store takes events and lists due deliveries, and takes no attempts. Requests then stop: outcomes that wait to be
//! recorded are bounded, and so is the number of requests that a crash would repeat.

use std::time::Duration;

use anyhow::ensure;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, distinct};
use hookline_testkit::waiting::until;
use serde_json::json;
use tokio::time::sleep;

const EVENTS: usize = 8_000;

const FAULT_DURATION: Duration = Duration::from_secs(10);

/// Longer than the fault: after a timeout the next batch would be tried.
const STATEMENT_TIMEOUT: (&str, &str) = ("HOOKLINE__STORE__STATEMENT_TIMEOUT_MS", "30000");

/// The batch that is being recorded (1,024), the outcomes that wait (2,048), and the requests in flight (256).
const MOST_REQUESTS: usize = 1_024 + 2_048 + 256;

pub(super) async fn requests_stop_while_attempts_cannot_be_recorded(
    mode: Mode,
) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let dependencies = deployment.dependencies()?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.started"]).await?;
    deployment.stop(Service::Dispatcher).await?;
    for events in tenant.events("workflow.started", EVENTS).chunks(500) {
        let answer = tenant.client.post("/events", &json!(events)).await?;
        answer.expect(202)?;
    }
    until("a row for each event", async || {
        let rows = dependencies.sql("SELECT count(*) FROM deliveries").await?;
        Ok((rows == EVENTS.to_string()).then_some(()))
    })
    .await?;

    let seconds = FAULT_DURATION.as_secs();
    let lock = format!(
        "DO $$ BEGIN LOCK TABLE attempts IN EXCLUSIVE MODE; PERFORM pg_sleep({seconds}); END $$"
    );
    tokio::try_join!(dependencies.sql(&lock), async {
        sleep(Duration::from_millis(200)).await;
        deployment
            .start_service(Service::Dispatcher, &[STATEMENT_TIMEOUT])
            .await
    })?;
    let requests = receiver.deliveries();
    println!("{requests} requests while attempts could not be recorded");
    ensure!(requests <= MOST_REQUESTS, "{requests} requests");

    receiver.wait_for(EVENTS).await?;
    until("each delivery once", async || {
        Ok((distinct(&receiver.received()).len() == EVENTS).then_some(()))
    })
    .await?;
    deployment.end().await
}
