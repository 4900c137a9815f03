//! The load: publishers over HTTP and over the broker, and a caller that makes a subscription now and then.
//!
//! A publisher often repeats an unconfirmed publish under the same id, as publishers should. Sometimes it gives up,
//! and the event may be delivered or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::ledger::{EventName, Ledger, LedgerSubscription};
use super::plan::Plan;
use super::system::System;
use hookline_testkit::client::{ApiClient, ApiResponse};
use hookline_testkit::publisher::{self, TestPublisher};
use hookline_testkit::tenant::EVENT_TYPES;

/// How long a publisher waits for a confirm, and a caller for an answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// The wait before an event is published again.
const REPUBLISH_AFTER: Duration = Duration::from_millis(250);

/// How often the load makes a subscription.
const SUBSCRIBES: Duration = Duration::from_secs(3);

/// No more subscriptions than this: each wants deliveries of its own.
const SUBSCRIPTIONS: usize = 14;

/// How many publishers there are of a kind; they share the rate.
const PUBLISHERS: u32 = 3;

/// A running load.
pub(crate) struct Load {
    over: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// The state that all tasks of the load share.
#[derive(Clone)]
struct LoadContext {
    ledger: Ledger,
    seed: u64,
    /// Events each second by HTTP, and as many on the broker where there is one.
    rate: u32,
    organizations: Vec<(&'static str, ApiClient)>,
    /// Where receivers listen.
    receiver: String,
    /// The nodes of the broker; none in a standalone deployment.
    amqp: Vec<String>,
    numbers: Arc<AtomicU64>,
    over: watch::Receiver<bool>,
}

impl Load {
    /// Makes the first subscriptions, and then load until [`Load::end`].
    pub(crate) async fn start(
        Plan { seed, rate, .. }: Plan,
        ledger: &Ledger,
        system: &System,
        receiver: String,
    ) -> anyhow::Result<Self> {
        let amqp = match &system.servers {
            Some(servers) => servers.amqp()?,
            None => Vec::new(),
        };
        let (over, listening) = watch::channel(false);
        let context = LoadContext {
            ledger: ledger.clone(),
            seed,
            rate,
            organizations: system
                .tenants
                .iter()
                .map(|tenant| (tenant.organization, tenant.client.clone()))
                .collect(),
            receiver,
            amqp,
            numbers: Arc::default(),
            over: listening,
        };
        for events in [
            &EVENT_TYPES[..],
            &["workflow.completed", "workflow.failed"],
            &["workflow.step.started"],
        ] {
            for (organization, client) in &context.organizations {
                let made = context.subscribe(organization, client, events).await;
                ensure!(made, "a first subscription was not made");
            }
        }
        let mut tasks = JoinSet::new();
        for number in 0..PUBLISHERS {
            tasks.spawn(context.clone().publish_by_http(number));
            if !context.amqp.is_empty() {
                tasks.spawn(context.clone().publish_on_broker(number));
            }
        }
        tasks.spawn(context.subscribe_now_and_then());
        Ok(Self { over, tasks })
    }

    /// Waits for the last answers.
    pub(crate) async fn end(self) {
        self.over.send_replace(true);
        self.tasks.join_all().await;
    }
}

/// An event that is about to be published.
struct Draft {
    name: EventName,
    event_type: &'static str,
    body: String,
}

impl LoadContext {
    fn rng(&self, task: &str, number: u32) -> ChaCha8Rng {
        let salt = task.bytes().fold(u64::from(number), |salt, byte| {
            salt.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        ChaCha8Rng::seed_from_u64(self.seed ^ salt)
    }

    fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    fn ticks(&self) -> tokio::time::Interval {
        let mut ticks = interval(Duration::from_secs(1) * PUBLISHERS / self.rate.max(1));
        // The load does not catch up on the time that parts are away: that would be a burst, not a load.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// Receivers get these very bytes: only `data` could be written in another way.
    fn draft(&self, rng: &mut ChaCha8Rng, organization: &str) -> Draft {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let event_type = EVENT_TYPES
            .choose(rng)
            .copied()
            .unwrap_or("workflow.failed");
        let id = format!("evt_{number}");
        let filling = "x".repeat(rng.random_range(0..400));
        let body = format!(
            r#"{{"event_id":"{id}","event_type":"{event_type}","workflow_id":"wf_{}","organization_id":"{organization}","timestamp":"2026-11-23T10:30:00Z","data":{{"number": {number}, "price":1.50,"text":"{filling}"}}}}"#,
            number % 10,
        );
        let name = (organization.to_owned(), id);
        self.ledger.publishes(&name, event_type, &body);
        Draft {
            name,
            event_type,
            body,
        }
    }

    /// Most publishers try again after a short wait; some give up.
    async fn republishes(&self, rng: &mut ChaCha8Rng) -> bool {
        if self.is_over() || rng.random_range(0..10) == 0 {
            return false;
        }
        tokio::time::sleep(REPUBLISH_AFTER).await;
        true
    }

    async fn publish_by_http(self, number: u32) {
        let mut rng = self.rng("http", number);
        let mut ticks = self.ticks();
        while !self.is_over() {
            ticks.tick().await;
            let Some((organization, client)) = self.organizations.choose(&mut rng) else {
                return;
            };
            let count = rng.random_range(1..=3);
            let drafts: Vec<Draft> = (0..count)
                .map(|_| self.draft(&mut rng, organization))
                .collect();
            let bodies: Vec<&str> = drafts.iter().map(|draft| draft.body.as_str()).collect();
            let body = format!("[{}]", bodies.join(","));
            loop {
                if self
                    .post(client, "/events", body.clone(), 202)
                    .await
                    .is_some()
                {
                    drafts
                        .iter()
                        .for_each(|draft| self.ledger.confirmed(&draft.name));
                    break;
                }
                if !self.republishes(&mut rng).await {
                    break;
                }
            }
            // As many events as tickets, however they came.
            for _ in 1..count {
                ticks.tick().await;
            }
        }
    }

    /// The answer, if it has the expected status. A status that is allowed while parts are away counts as no answer.
    /// Any other is an error of the run.
    async fn post(
        &self,
        client: &ApiClient,
        path: &str,
        body: String,
        good: u16,
    ) -> Option<ApiResponse> {
        let request = client
            .request(reqwest::Method::POST, path)
            .header("content-type", "application/json")
            .body(body);
        // No answer is allowed, too: the process may just have been killed.
        let answer = timeout(PATIENCE, client.send(request)).await.ok()?.ok()?;
        match answer.status.as_u16() {
            status if status == good => Some(answer),
            // Its time has run out while the process was frozen: RFC 9110, 15.5.9.
            408 => None,
            429 | 503 if answer.headers.contains_key("retry-after") => {
                self.ledger.refused();
                None
            }
            status => {
                let what = format!("POST {path} was answered with {status}: {}", answer.json);
                self.ledger.violation(what);
                None
            }
        }
    }

    /// A publisher begins with a node, and goes on with the next one after a failure.
    async fn publish_on_broker(self, number: u32) {
        let mut nodes = self.amqp.iter().cycle().skip(number as usize);
        let Some(mut amqp) = nodes.next() else { return };
        let mut rng = self.rng("amqp", number);
        let mut ticks = self.ticks();
        let mut connection = None;
        while !self.is_over() {
            ticks.tick().await;
            let Some((organization, _)) = self.organizations.choose(&mut rng) else {
                return;
            };
            let draft = self.draft(&mut rng, organization);
            loop {
                let published = timeout(PATIENCE, publish(&mut connection, amqp, &draft)).await;
                if matches!(published, Ok(Ok(()))) {
                    self.ledger.confirmed(&draft.name);
                    break;
                }
                // A confirm that is still to come must not be taken for that of the next one.
                connection = None;
                amqp = nodes.next().unwrap_or(amqp);
                if !self.republishes(&mut rng).await {
                    break;
                }
            }
        }
    }

    async fn subscribe_now_and_then(self) {
        let mut rng = self.rng("subscriber", 0);
        let mut over = self.over.clone();
        while self.ledger.subscriptions().len() < SUBSCRIPTIONS {
            tokio::select! {
                ended = over.wait_for(|over| *over) => {
                    drop(ended);
                    return;
                }
                () = tokio::time::sleep(SUBSCRIBES) => {}
            }
            let Some((organization, client)) = self.organizations.choose(&mut rng) else {
                return;
            };
            let event_type = EVENT_TYPES.choose(&mut rng).copied();
            self.subscribe(organization, client, event_type.as_slice())
                .await;
        }
    }

    /// Whether it was made for certain.
    async fn subscribe(
        &self,
        organization: &str,
        client: &ApiClient,
        events: &[&'static str],
    ) -> bool {
        let number = self.ledger.asks_for(LedgerSubscription {
            organization: organization.to_owned(),
            events: events.to_vec(),
            secret: "hush".to_owned(),
            created: None,
            lost_by_failover: false,
        });
        let body: Value = json!({
            "name": format!("hook {number}"), "url": format!("{}/{number}", self.receiver),
            "events": events, "secret": "hush",
        });
        let made = self.post(client, "/webhooks", body.to_string(), 201).await;
        let id = made.and_then(|answer| answer.json["id"].as_i64());
        if let Some(id) = id {
            self.ledger.created(number, id);
        }
        id.is_some()
    }
}

/// Fails unless the event is confirmed and not returned.
async fn publish(
    connection: &mut Option<TestPublisher>,
    amqp: &str,
    draft: &Draft,
) -> anyhow::Result<()> {
    let publisher = match connection {
        Some(publisher) => publisher,
        None => connection.insert(TestPublisher::connect(amqp).await?),
    };
    let body = draft.body.as_bytes();
    publisher
        .publish(draft.event_type, body, publisher::json())
        .await
}
