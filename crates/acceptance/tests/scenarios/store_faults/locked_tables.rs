//! An operator locks tables, say with `ALTER TABLE`: every statement waits until it is cancelled. Readiness
//! shows that within a bound, and once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::tenant::Tenant;
use tokio::time::sleep;

/// Longer than a dispatcher without work leaves the database alone, and a statement may take.
const FAULT_DURATION: Duration = Duration::from_secs(12);

/// The rule is `store.statement_timeout_ms` and a second; a busy machine needs longer for the first call.
const NOT_READY_WITHIN: Duration = Duration::from_secs(5 + 2);

const READY_AGAIN_WITHIN: Duration = Duration::from_secs(2);

/// Readiness is watched for this long after it is 200 again.
const STAYS_READY: Duration = Duration::from_secs(3);

const PACE: Duration = Duration::from_millis(200);

const SERVICES: [Service; 3] = [Service::Api, Service::Ingest, Service::Dispatcher];

/// Without the probe's table a service notices by its calls alone.
const LOCKED: [(&str, &str); 2] = [
    ("all tables but the probe's", "tablename <> 'write_probe'"),
    ("all tables", "true"),
];

pub(super) async fn locked_tables_show_as_one_change_of_readiness_and_back(
    mode: Mode,
) -> anyhow::Result<()> {
    let [but_the_probe, all] = LOCKED;
    // They wait for most of the time.
    tokio::try_join!(
        busy_services(mode, but_the_probe),
        busy_services(mode, all),
        idle_dispatcher(mode),
    )?;
    Ok(())
}

async fn busy_services(mode: Mode, (what, which): (&str, &str)) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let over = AtomicBool::new(false);
    let (lock, (), (), api, ingest, dispatcher) = tokio::try_join!(
        async {
            let lock = lock(&deployment, which).await?;
            sleep(READY_AGAIN_WITHIN + STAYS_READY).await;
            over.store(true, Ordering::Relaxed);
            Ok(lock)
        },
        publish(&tenant, &over),
        ask(&tenant, &over),
        watch(&deployment, SERVICES[0], &over),
        watch(&deployment, SERVICES[1], &over),
        watch(&deployment, SERVICES[2], &over),
    )?;
    for (service, changes) in SERVICES.into_iter().zip([api, ingest, dispatcher]) {
        lock.shows_in(&changes)
            .map_err(|why| why.context(format!("{service:?}, {what}")))?;
    }
    deployment.end().await
}

/// The tables that a service reads at its start may be locked, too. It waits, as for a database that is away.
pub(super) async fn a_service_that_starts_while_tables_are_locked_waits(
    mode: Mode,
) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.started"]).await?;
    deployment.stop(Service::Dispatcher).await?;
    tokio::try_join!(
        async { lock(&deployment, LOCKED[0].1).await.map(drop) },
        async {
            sleep(Duration::from_secs(1)).await;
            deployment.start_service(Service::Dispatcher, &[]).await
        },
    )?;
    deployment.wait_ready().await?;
    tenant.publish_one("workflow.started").await?;
    receiver.wait_for(1).await?;
    deployment.end().await
}

/// A dispatcher without work has few calls that could fail; these are repeated soon.
async fn idle_dispatcher(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let over = AtomicBool::new(false);
    let ((), changes) = tokio::try_join!(
        async {
            lock(&deployment, LOCKED[0].1).await?;
            sleep(READY_AGAIN_WITHIN + STAYS_READY).await;
            over.store(true, Ordering::Relaxed);
            Ok(())
        },
        watch(&deployment, Service::Dispatcher, &over),
    )?;
    let statuses: Vec<u16> = changes.iter().map(|(status, _)| *status).collect();
    ensure!(statuses == [200, 503, 200], "without work: {statuses:?}");
    deployment.end().await
}

struct Lock {
    began: Instant,
    ended: Instant,
}

/// Readiness and when it became so.
type Changes = Vec<(u16, Instant)>;

impl Lock {
    fn shows_in(&self, changes: &Changes) -> anyhow::Result<()> {
        let statuses: Vec<u16> = changes.iter().map(|(status, _)| *status).collect();
        let times: Vec<Duration> = changes.iter().map(|(_, at)| *at - self.began).collect();
        ensure!(statuses == [200, 503, 200], "{statuses:?} at {times:?}");
        let (fell, rose) = (times[1], changes[2].1.duration_since(self.ended));
        println!("503 {fell:?} after the lock, 200 {rose:?} after its end");
        ensure!(fell < NOT_READY_WITHIN, "503 after {fell:?}");
        ensure!(rose < READY_AGAIN_WITHIN, "200 after {rose:?}");
        Ok(())
    }
}

/// Locks the tables for a while.
async fn lock(deployment: &Deployment, which: &str) -> anyhow::Result<Lock> {
    let seconds = FAULT_DURATION.as_secs();
    let sql = format!(
        "DO $$ BEGIN
           EXECUTE (SELECT 'LOCK TABLE ' || string_agg(quote_ident(tablename), ', ') || ' IN ACCESS EXCLUSIVE MODE'
                      FROM pg_tables WHERE schemaname = 'public' AND {which});
           PERFORM pg_sleep({seconds});
         END $$"
    );
    deployment.dependencies()?.sql(&sql).await?;
    let ended = Instant::now();
    // It may wait long for the last table: from then on all are locked.
    let began = ended - FAULT_DURATION;
    Ok(Lock { began, ended })
}

/// Work for ingest and the dispatcher.
async fn publish(tenant: &Tenant<'_>, over: &AtomicBool) -> anyhow::Result<()> {
    while !over.load(Ordering::Relaxed) {
        tenant.publish_one("workflow.started").await?;
        sleep(PACE).await;
    }
    Ok(())
}

/// Work for the API, whatever comes of it.
async fn ask(tenant: &Tenant<'_>, over: &AtomicBool) -> anyhow::Result<()> {
    while !over.load(Ordering::Relaxed) {
        let _ = tenant.client.get("/webhooks").await;
        sleep(PACE).await;
    }
    Ok(())
}

async fn watch(
    deployment: &Deployment,
    service: Service,
    over: &AtomicBool,
) -> anyhow::Result<Changes> {
    let readiness = format!("{}/readyz", deployment.admin(service).await?);
    // A client for each request would take longer than the request.
    let client = hookline_testkit::http::http_client();
    let mut changes = Changes::new();
    while !over.load(Ordering::Relaxed) {
        let status = client.get(&readiness).send().await?.status().as_u16();
        if changes.last().is_none_or(|(last, _)| *last != status) {
            changes.push((status, Instant::now()));
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(changes)
}
