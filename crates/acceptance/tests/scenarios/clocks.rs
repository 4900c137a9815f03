//! Clocks that jump. The wall clock of the processes is shifted while they run (libfaketime); their
//! monotonic clock and the servers' clocks are as they are.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::waiting::until;
use tempfile::TempDir;

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        clock_jumps_delay_and_lose_nothing,
        a_clock_forty_days_ahead_deletes_nothing,
    ]
}

pub(crate) fn standalone() -> Vec<IsolatedScenario> {
    scenarios![a_clock_set_back_during_a_restart_delays_no_retry]
}

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![a_failing_retention_step_delays_no_other]
}

/// The delay that a jump may cause, the wait of a retry, and a margin for a busy machine.
const DELIVERY_LIMIT: Duration = Duration::from_secs(5 + 1 + 4);

const HOUR: i64 = 60 * 60;

/// The wall clock of the processes that are started with its variables.
struct WallClock {
    folder: TempDir,
    library: String,
}

impl WallClock {
    fn new() -> anyhow::Result<Self> {
        let clock = Self {
            folder: tempfile::tempdir()?,
            library: std::env::var("HOOKLINE_TEST_FAKETIME")
                .ok()
                .filter(|library| !library.is_empty())
                .context("HOOKLINE_TEST_FAKETIME is not set: run the tests with `make test`")?,
        };
        clock.set(0)?;
        Ok(clock)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("shift")
    }

    /// Sets it so many seconds from the true time.
    fn set(&self, seconds: i64) -> anyhow::Result<()> {
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(new, self.file())?)
    }

    async fn start(&self, mode: Mode, settings: &[(&str, &str)]) -> anyhow::Result<Deployment> {
        let file = self.file();
        let mut variables = vec![
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().context("UTF-8")?),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        variables.extend(settings);
        Deployment::start_with(mode, &variables).await
    }
}

/// One that fails each delivery once.
fn failing_once() -> anyhow::Result<Receiver> {
    Receiver::answering(vec![Reply::status(500), Reply::status(200)])
}

async fn clock_jumps_delay_and_lose_nothing(mode: Mode) -> anyhow::Result<()> {
    let clock = WallClock::new()?;
    let deployment = clock.start(mode, &[]).await?;
    let tenant = deployment.tenant().await?;
    let receiver = failing_once()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let mut expected = 0;
    // Ahead by an hour, back again, behind by an hour, by 3 s more, and right again.
    for shift in [HOUR, 0, -HOUR, -HOUR - 3, 0, -3] {
        // One waits for its retry while the clock jumps, and one comes after that.
        tenant.publish_one("workflow.failed").await?;
        receiver.wait_for(expected + 1).await?;
        clock.set(shift)?;
        let jumped = Instant::now();
        tenant.publish_one("workflow.failed").await?;
        expected += 4;
        receiver.wait_for(expected).await?;
        let passed = jumped.elapsed();
        ensure!(
            passed < DELIVERY_LIMIT,
            "{passed:?} after a jump to {shift} s"
        );
    }
    let path = format!("/webhooks/{subscription}/logs?limit=1");
    until("every attempt in the log", async || {
        let page = tenant.client.get(&path).await?.expect(200)?;
        Ok((page.json["total"] == expected).then_some(()))
    })
    .await?;
    let requests = receiver.received().len();
    ensure!(requests == expected, "{requests} requests");
    deployment.end().await
}

async fn a_clock_forty_days_ahead_deletes_nothing(mode: Mode) -> anyhow::Result<()> {
    let clock = WallClock::new()?;
    let deployment = clock.start(mode, &[]).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let old = tenant.publish_one("workflow.failed").await?;
    tenant.client.wait_for_log(subscription, 1).await?;
    clock.set(40 * 24 * HOUR)?;
    // The upkeep has a turn when its process starts.
    deployment.restart(Service::Dispatcher, &[]).await?;
    match mode {
        Mode::Standalone => {
            gauge(
                &deployment,
                "hookline_upkeep_failing",
                r#"step="events""#,
                |failing| failing == 0.0,
            )
            .await?;
            let days = |lag: f64| lag / (24.0 * 3_600.0);
            gauge(&deployment, "hookline_retention_lag_seconds", "", |lag| {
                days(lag) > 39.0
            })
            .await?;
        }
        Mode::Distributed => {
            gauge(
                &deployment,
                "hookline_upkeep_failing",
                r#"step="clock""#,
                |failing| failing == 1.0,
            )
            .await?;
        }
    }
    tenant.publish_one("workflow.failed").await?;
    tenant.client.wait_for_log(subscription, 2).await?;
    let details = tenant.client.get(&format!("/events/{old}")).await?;
    details.expect(200)?;
    deployment.end().await
}

async fn a_clock_set_back_during_a_restart_delays_no_retry(mode: Mode) -> anyhow::Result<()> {
    let clock = WallClock::new()?;
    clock.set(HOUR)?;
    let deployment = clock.start(mode, &[]).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::answering(vec![
        Reply::status(429).with_header("retry-after", "5"),
        Reply::status(200),
    ])?;
    let subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    tenant.publish_one("workflow.failed").await?;
    tenant.client.wait_for_log(subscription, 1).await?;
    deployment.kill(Service::Dispatcher).await?;
    clock.set(0)?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;
    receiver.wait_for(2).await?;
    deployment.end().await
}

async fn a_failing_retention_step_delays_no_other(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    deployment.stop(Service::Dispatcher).await?;
    let database = deployment.dependencies()?;
    database
        .sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN RAISE EXCEPTION ''refused''; END';
             CREATE TRIGGER refuse BEFORE DELETE ON crash_counts FOR EACH STATEMENT EXECUTE FUNCTION refuse();
             INSERT INTO events (key, organization_id, event_id, event_type, body, received_at)
             VALUES (gen_random_uuid(), 'o', 'old', 'workflow.failed', '', 0)",
        )
        .await?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    gauge(
        &deployment,
        "hookline_upkeep_failing",
        r#"step="crash_counts""#,
        |failing| failing == 1.0,
    )
    .await?;
    gauge(
        &deployment,
        "hookline_upkeep_failing",
        r#"step="events""#,
        |failing| failing == 0.0,
    )
    .await?;
    let left = database.sql("SELECT count(*) FROM events").await?;
    ensure!(left == "0", "{left} events are left");
    deployment.end().await
}

/// Waits until a dispatcher shows a gauge with this label and such a value.
async fn gauge(
    deployment: &Deployment,
    name: &str,
    label: &str,
    is_expected: impl Fn(f64) -> bool,
) -> anyhow::Result<()> {
    let metrics = format!("{}/metrics", deployment.admin(Service::Dispatcher).await?);
    until(&format!("{name} with {label}"), async || {
        let Ok(answer) = hookline_testkit::http::get(&metrics).await else {
            return Ok(None);
        };
        let text = answer.text().await?;
        let mut lines = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label));
        let value = lines.next().and_then(|line| line.rsplit_once(' '));
        let value: Option<f64> = value.and_then(|(_, value)| value.parse().ok());
        Ok(value.filter(|value| is_expected(*value)).map(drop))
    })
    .await
}
