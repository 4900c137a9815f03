//! Transient errors of PostgreSQL: a deadlock, a cancelled statement, a right that was revoked, a full disk. No
//! accepted event is dead-lettered because of them. Readiness reports them, and everything goes on by itself afterwards.
//! The server speaks English, German and Japanese, because no error may be told apart by its text.

mod full_disk;
mod locked_rows;
mod locked_tables;
mod lone_rows;
mod pooled;
mod unended;
mod unrecorded;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::database_faults::{Database, DatabaseFault};
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        a_deadlock_dead_letters_nothing,
        a_cancelled_statement_is_tried_again,
        events_wait_while_a_database_right_is_revoked,
        events_wait_while_the_database_is_read_only,
        killed_database_sessions_are_replaced,
        lost_prepared_statements_end_only_their_session,
        full_disk::events_wait_while_the_database_disk_is_full,
        locked_rows::organizations_with_locked_rows_delay_no_other,
        locked_rows::an_attempt_is_recorded_after_its_row_is_unlocked,
        unended::a_delivery_that_cannot_be_ended_is_no_dead_letter_yet,
        locked_tables::a_service_that_starts_while_tables_are_locked_waits,
        lone_rows::a_row_that_fails_alone_for_a_minute_is_dead_lettered_with_one_log_line,
        pooled::a_session_pooler_is_supported,
        pooled::a_transaction_pooler_is_refused_at_the_start,
    ]
}

/// They measure time, or need most of the machine.
pub(crate) fn exclusive() -> Vec<IsolatedScenario> {
    scenarios![
        locked_tables::locked_tables_show_as_one_change_of_readiness_and_back,
        unrecorded::requests_stop_while_attempts_are_refused,
        unrecorded::requests_stop_while_attempts_cannot_be_recorded,
    ]
}

/// The locales of `deploy/services install`, and what needs none.
const LANGUAGES: [&str; 3] = ["C", "de_DE.UTF-8", "ja_JP.UTF-8"];

/// How long a fault lasts: many times what a service waits before it tries again.
const FAULT_DURATION: Duration = Duration::from_secs(2);

/// Work goes on within this time. On an idle machine it takes 0.2 to 3 s (the rule is 5 s); other
/// scenarios run beside these.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

/// How long a receiver takes: some deliveries are under way when the fault begins, and are answered
/// with 200 during it.
const ANSWERS_AFTER: Duration = Duration::from_millis(300);

const BEFORE: usize = 10;
const MEANWHILE: usize = 20;

async fn a_deadlock_dead_letters_nothing(mode: Mode) -> anyhow::Result<()> {
    in_each_language(mode, DatabaseFault::Deadlock).await
}

async fn a_cancelled_statement_is_tried_again(mode: Mode) -> anyhow::Result<()> {
    in_each_language(mode, DatabaseFault::Cancel).await
}

async fn events_wait_while_a_database_right_is_revoked(mode: Mode) -> anyhow::Result<()> {
    in_each_language(mode, DatabaseFault::Revoke).await
}

async fn events_wait_while_the_database_is_read_only(mode: Mode) -> anyhow::Result<()> {
    in_each_language(mode, DatabaseFault::ReadOnly).await
}

async fn killed_database_sessions_are_replaced(mode: Mode) -> anyhow::Result<()> {
    in_each_language(mode, DatabaseFault::Kill).await
}

async fn lost_prepared_statements_end_only_their_session(mode: Mode) -> anyhow::Result<()> {
    in_each_language(mode, DatabaseFault::Unprepare).await
}

async fn in_each_language(mode: Mode, fault: DatabaseFault) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let database = deployment.dependencies()?.as_superuser()?;
    let tenant = deployment.tenant().await?;
    let mut probe = DeliveryProbe::of(&tenant).await?;
    for language in LANGUAGES {
        if !speak(&deployment, &database, language).await? {
            continue;
        }
        let description = || format!("{fault:?} in {language}");
        probe.publish(BEFORE).await?;
        let ongoing = database.begin_fault(fault).await?;
        probe.during_fault().await.with_context(description)?;
        not_ready(&deployment, cannot_write(fault))
            .await
            .with_context(description)?;
        tokio::time::sleep(FAULT_DURATION).await;
        ongoing.end().await?;
        probe.recovers().await.with_context(description)?;
    }
    deployment.end().await
}

/// The services that cannot write anything of their present work. After a killed session they work on
/// with the next one.
fn cannot_write(fault: DatabaseFault) -> &'static [Service] {
    match fault {
        DatabaseFault::Kill | DatabaseFault::Unprepare => &[],
        DatabaseFault::Deadlock | DatabaseFault::Cancel | DatabaseFault::Revoke => {
            &[Service::Ingest]
        }
        DatabaseFault::ReadOnly => &[Service::Api, Service::Ingest, Service::Dispatcher],
    }
}

/// Whether it has words in this language: PostgreSQL can be built without.
async fn speak(
    deployment: &Deployment,
    database: &Database,
    language: &str,
) -> anyhow::Result<bool> {
    let speaks = database.set_language(language).await?;
    if !speaks {
        println!("store faults in {language}: NOT TRIED: this PostgreSQL speaks English only");
    }
    deployment.wait_ready().await?;
    Ok(speaks)
}

async fn not_ready(deployment: &Deployment, services: &[Service]) -> anyhow::Result<()> {
    for service in services {
        until(&format!("{service:?} to say 503"), async || {
            Ok((deployment.readiness(*service).await == 503).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// A publisher and a receiver that remember what was accepted and what came.
struct DeliveryProbe<'a> {
    tenant: &'a Tenant<'a>,
    receiver: Receiver,
    subscription: i64,
    accepted: HashSet<String>,
    /// Answered with 503: it may come or not.
    unknown: HashSet<String>,
}

impl<'a> DeliveryProbe<'a> {
    async fn of(tenant: &'a Tenant<'a>) -> anyhow::Result<Self> {
        let receiver = Receiver::with(|_, _| Reply::status(200).after(ANSWERS_AFTER))?;
        let subscription = tenant.subscribe(&receiver, &["workflow.started"]).await?;
        Ok(Self {
            tenant,
            receiver,
            subscription,
            accepted: HashSet::new(),
            unknown: HashSet::new(),
        })
    }

    /// On the broker, which confirms each.
    async fn publish(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let id = self.tenant.publish_one("workflow.started").await?;
            self.accepted.insert(id);
        }
        Ok(())
    }

    /// Publishes in both ways and changes a subscription. The API does it or says 503.
    async fn during_fault(&mut self) -> anyhow::Result<()> {
        self.publish(MEANWHILE).await?;
        for number in 0..MEANWHILE / 2 {
            let event = self.tenant.event("workflow.started");
            let id = event["event_id"].as_str().context("an id")?.to_owned();
            match self.call(Method::POST, "/events", &event, 202).await? {
                true => self.accepted.insert(id),
                false => self.unknown.insert(id),
            };
            let path = format!("/webhooks/{}", self.subscription);
            let name = json!({"name": format!("name {number}")});
            self.call(Method::PATCH, &path, &name, 200).await?;
        }
        Ok(())
    }

    /// Whether it was done; the other answer that is right is to come again later.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        done: u16,
    ) -> anyhow::Result<bool> {
        let call = format!("{method} {path}");
        let request = self.tenant.client.request(method, path).json(body);
        let answer = self.tenant.client.send(request).await?;
        if answer.status == done {
            return Ok(true);
        }
        let answer = answer.expect(503).context(call.clone())?;
        ensure!(answer.headers.contains_key("retry-after"), "{call}");
        Ok(false)
    }

    /// From now on within [`RECOVERY_LIMIT`], and everything that was accepted comes to a good end.
    async fn recovers(&mut self) -> anyhow::Result<()> {
        let back = Instant::now();
        self.publish(1).await?;
        until("every accepted event", async || {
            let received = self.received_ids()?;
            Ok(self.accepted.is_subset(&received).then_some(()))
        })
        .await?;
        self.tenant.deployment.wait_ready().await?;
        let elapsed = back.elapsed();
        println!("everything went on {elapsed:?} after the fault");
        ensure!(
            elapsed < RECOVERY_LIMIT,
            "everything went on after {elapsed:?}"
        );
        self.everything_is_delivered().await
    }

    fn received_ids(&self) -> anyhow::Result<HashSet<String>> {
        let received = self.receiver.received();
        received
            .iter()
            .map(|request| {
                let body: Value = serde_json::from_slice(&request.body)?;
                Ok(body["event_id"].as_str().context("an id")?.to_owned())
            })
            .collect()
    }

    /// The store says so, too: what was answered with 200 is delivered, and nothing was dead-lettered.
    async fn everything_is_delivered(&self) -> anyhow::Result<()> {
        until("the end of each delivery", async || {
            Ok((self.total("pending").await? == 0).then_some(()))
        })
        .await?;
        let received = self.received_ids()?;
        let unpublished = received
            .iter()
            .find(|id| !self.accepted.contains(*id) && !self.unknown.contains(*id));
        ensure!(unpublished.is_none(), "never published: {unpublished:?}");
        let delivered = self.total("delivered").await?;
        ensure!(
            delivered == received.len() as u64,
            "{} events came, and the store says {delivered}",
            received.len()
        );
        for status in ["exhausted", "skipped", "cancelled"] {
            let ended = self.total(status).await?;
            ensure!(ended == 0, "{ended} deliveries are {status}");
        }
        let dead = self.tenant.deployment.dead_letters().await?;
        ensure!(dead.is_empty(), "{dead:?}");
        Ok(())
    }

    /// A session that was killed while it was idle costs a request that finds it: that one is asked to come again.
    async fn total(&self, status: &str) -> anyhow::Result<u64> {
        let id = self.subscription;
        let path = format!("/webhooks/{id}/deliveries?status={status}&limit=1");
        let page = until("a page of deliveries", async || {
            let answer = self.tenant.client.get(&path).await?;
            Ok((answer.status != 503).then_some(answer))
        });
        page.await?.expect(200)?.json["total"]
            .as_u64()
            .context("a page without a total")
    }
}
