//! Transient errors of PostgreSQL: a deadlock, a cancelled statement, a right that was revoked, a full disk. No
//! accepted event is put aside because of them. Readiness reports them, and everything goes on by itself afterwards.
//! The server speaks English, German and Japanese, because no error may be told apart by its text.

mod full_disk;
mod locked_rows;
mod locked_tables;
mod lone_rows;
mod pooled;
mod unended;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_acceptance::sentences;
use hookline_acceptance::suite::Alone;
use hookline_testkit::database_faults::{Database, Fault};
use hookline_testkit::deployment::{Home, Kind, Part};
use hookline_testkit::receiver::{Receiver, Reply};
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) fn distributed() -> Vec<Alone> {
    sentences![
        a_deadlock_puts_nothing_aside,
        a_cancelled_statement_is_tried_again,
        a_revoked_right_is_waited_for,
        a_read_only_database_is_waited_for,
        sessions_that_are_killed_are_replaced,
        prepared_statements_that_are_gone_cost_the_session_alone,
        full_disk::a_full_disk_of_the_database_is_waited_for,
        locked_rows::organizations_whose_rows_are_locked_hold_up_no_other,
        locked_rows::an_answer_whose_row_is_locked_is_recorded_afterwards,
        locked_tables::a_service_that_starts_while_tables_are_locked_waits,
        lone_rows::a_row_that_fails_alone_for_a_minute_is_put_aside_in_one_line,
        pooled::behind_a_session_pooler_everything_works,
        pooled::a_transaction_pooler_is_refused_at_the_start,
    ]
}

pub(crate) fn quiet() -> Vec<Alone> {
    sentences![
        locked_tables::locked_tables_show_as_one_change_of_readiness_and_back,
        unended::a_delivery_that_cannot_be_ended_is_no_dead_letter_yet,
    ]
}

/// The locales of `deploy/services install`, and what needs none.
const LANGUAGES: [&str; 3] = ["C", "de_DE.UTF-8", "ja_JP.UTF-8"];

/// How long a fault lasts: many times what a service waits before it tries again.
const LASTS: Duration = Duration::from_secs(2);

/// One fault at a time: how soon work goes on is measured, and the scenarios share the machine.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Work goes on within this time. On an idle machine it takes 0.2 to 3 s (the rule is 5 s); other
/// scenarios run beside these.
const SOON: Duration = Duration::from_secs(15);

/// How long a receiver takes: some deliveries are under way when the fault begins, and are answered
/// with 200 during it.
const ANSWERS_AFTER: Duration = Duration::from_millis(300);

const BEFORE: usize = 10;
const MEANWHILE: usize = 20;

async fn a_deadlock_puts_nothing_aside(kind: Kind) -> anyhow::Result<()> {
    in_each_language(kind, Fault::Deadlock).await
}

async fn a_cancelled_statement_is_tried_again(kind: Kind) -> anyhow::Result<()> {
    in_each_language(kind, Fault::Cancel).await
}

async fn a_revoked_right_is_waited_for(kind: Kind) -> anyhow::Result<()> {
    in_each_language(kind, Fault::Revoke).await
}

async fn a_read_only_database_is_waited_for(kind: Kind) -> anyhow::Result<()> {
    in_each_language(kind, Fault::ReadOnly).await
}

async fn sessions_that_are_killed_are_replaced(kind: Kind) -> anyhow::Result<()> {
    in_each_language(kind, Fault::Kill).await
}

async fn prepared_statements_that_are_gone_cost_the_session_alone(
    kind: Kind,
) -> anyhow::Result<()> {
    in_each_language(kind, Fault::Unprepare).await
}

async fn in_each_language(kind: Kind, fault: Fault) -> anyhow::Result<()> {
    let home = Home::start(kind).await?;
    let database = home.peers()?.as_superuser()?;
    let tenant = home.tenant().await?;
    let mut witness = Witness::of(&tenant).await?;
    for language in LANGUAGES {
        if !speak(&home, &database, language).await? {
            continue;
        }
        let told = || format!("{fault:?} in {language}");
        witness.publish(BEFORE).await?;
        let _turn = ONE_AT_A_TIME.lock().await;
        let ongoing = database.begin(fault).await?;
        witness.meanwhile().await.with_context(told)?;
        not_ready(&home, cannot_write(fault))
            .await
            .with_context(told)?;
        tokio::time::sleep(LASTS).await;
        ongoing.end().await?;
        witness.goes_on().await.with_context(told)?;
    }
    home.end().await
}

/// The services that cannot write anything of their present work. After a killed session they work on
/// with the next one.
fn cannot_write(fault: Fault) -> &'static [Part] {
    match fault {
        Fault::Kill | Fault::Unprepare => &[],
        Fault::Deadlock | Fault::Cancel | Fault::Revoke => &[Part::Ingest],
        Fault::ReadOnly => &[Part::Api, Part::Ingest, Part::Dispatcher],
    }
}

/// Whether it has words in this language: PostgreSQL can be built without.
async fn speak(home: &Home, database: &Database, language: &str) -> anyhow::Result<bool> {
    let speaks = database.speak(language).await?;
    if !speaks {
        println!("store faults in {language}: NOT TRIED: this PostgreSQL speaks English only");
    }
    home.wait_ready().await?;
    Ok(speaks)
}

async fn not_ready(home: &Home, parts: &[Part]) -> anyhow::Result<()> {
    for part in parts {
        until(&format!("{part:?} to say 503"), async || {
            Ok((home.readiness(*part).await == 503).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// A publisher and a receiver that remember what was accepted and what came.
struct Witness<'a> {
    tenant: &'a Tenant<'a>,
    receiver: Receiver,
    subscription: i64,
    accepted: HashSet<String>,
    /// Answered with 503: it may come or not.
    unknown: HashSet<String>,
}

impl<'a> Witness<'a> {
    async fn of(tenant: &'a Tenant<'a>) -> anyhow::Result<Self> {
        let receiver = Receiver::that(|_, _| Reply::status(200).after(ANSWERS_AFTER))?;
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
    async fn meanwhile(&mut self) -> anyhow::Result<()> {
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

    /// From now on within [`SOON`], and everything that was accepted comes to a good end.
    async fn goes_on(&mut self) -> anyhow::Result<()> {
        let back = Instant::now();
        self.publish(1).await?;
        until("every accepted event", async || {
            let came = self.came()?;
            Ok(self.accepted.is_subset(&came).then_some(()))
        })
        .await?;
        self.tenant.home.wait_ready().await?;
        let took = back.elapsed();
        println!("everything went on {took:?} after the fault");
        ensure!(took < SOON, "everything went on after {took:?}");
        self.everything_is_delivered().await
    }

    fn came(&self) -> anyhow::Result<HashSet<String>> {
        let received = self.receiver.received();
        received
            .iter()
            .map(|request| {
                let body: Value = serde_json::from_slice(&request.body)?;
                Ok(body["event_id"].as_str().context("an id")?.to_owned())
            })
            .collect()
    }

    /// The store says so, too: what was answered with 200 is delivered, and nothing was put aside.
    async fn everything_is_delivered(&self) -> anyhow::Result<()> {
        until("the end of each delivery", async || {
            Ok((self.total("pending").await? == 0).then_some(()))
        })
        .await?;
        let came = self.came()?;
        let stranger = came
            .iter()
            .find(|id| !self.accepted.contains(*id) && !self.unknown.contains(*id));
        ensure!(stranger.is_none(), "never published: {stranger:?}");
        let delivered = self.total("delivered").await?;
        ensure!(
            delivered == came.len() as u64,
            "{} events came, and the store says {delivered}",
            came.len()
        );
        for status in ["exhausted", "skipped", "cancelled"] {
            let ended = self.total(status).await?;
            ensure!(ended == 0, "{ended} deliveries are {status}");
        }
        let dead = self.tenant.home.dead_letters().await?;
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
