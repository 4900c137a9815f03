//! A fresh store for each test, and the rows that tests put into it.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::BigInt;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection};
use hookline_core::delivery::{AttemptTask, DeliveryKind, RetryRun};
use hookline_core::event::{Event, MissingId};
use hookline_core::http_log::HttpLog;
use hookline_core::ids::{DeliveryId, EventKey, OrganizationId, SubscriptionId};
use hookline_core::master_key::{MasterKey, MasterKeyId, MasterKeys};
use hookline_core::outcome::{AttemptOutcome, ReceiverResponse};
use hookline_core::subscription::{NewSubscription, Subscription};
use hookline_core::target::{TargetRules, TargetUrl};
use hookline_core::timestamp::Timestamp;
use hookline_store::{
    AttemptRecord, CreateResult, FanoutIndex, IncomingEvent, IntakeResult, NextStep, PlanCacheMode,
    PostgresSettings, Store,
};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

/// Runs a test on both backends: `on_both!(name)` makes `embedded::name` and `postgres::name`.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test] async fn $test() { super::$test(crate::fixture::Fixture::embedded().await).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $test() { super::$test(crate::fixture::Fixture::postgres().await).await; })*
        }
    };
}
pub(crate) use on_both;

pub(crate) const NOW: i64 = 1_766_313_000_000_000;
pub(crate) const DAY: i64 = 86_400_000_000;

pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(micros)
}

pub(crate) fn now() -> Timestamp {
    at(NOW)
}

pub(crate) fn settings(url: &str) -> PostgresSettings {
    PostgresSettings {
        url: url.to_owned(),
        connections: 8,
        wait: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(10),
        application_name: "hookline test".to_owned(),
        plans: PlanCacheMode::ForceGeneric,
    }
}

/// Master keys with these letters as ids; the first one seals.
pub(crate) fn keys(ids: &str) -> MasterKeys {
    let key = |id: char| {
        let mut bytes = [0; 32];
        bytes[0] = id as u8;
        let id = MasterKeyId::parse(&id.to_string()).unwrap();
        MasterKey::new(id, bytes).expose_text()
    };
    let keys: Vec<String> = ids.chars().map(key).collect();
    MasterKeys::parse(&keys.join(","), None).unwrap()
}

pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) index: FanoutIndex,
    raw: Raw,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// The way around the store.
enum Raw {
    None,
    Folder(TempDir),
    Database(String),
}

impl Fixture {
    pub(crate) fn of(store: Store) -> Self {
        Self {
            store,
            index: FanoutIndex::default(),
            raw: Raw::None,
        }
    }

    pub(crate) async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::embedded(folder.path()).unwrap();
        let store = store.unlock(&keys("a")).await.unwrap();
        Self {
            raw: Raw::Folder(folder),
            ..Self::of(store)
        }
    }

    pub(crate) async fn postgres() -> Self {
        let server = std::env::var("HOOKLINE_TEST_POSTGRES")
            .expect("HOOKLINE_TEST_POSTGRES is not set: run the tests with `make test`");
        let name = format!("s{}", Uuid::new_v4().simple());
        let made = Command::new("psql")
            .args([&server, "-Xqc", &format!("CREATE DATABASE {name}")])
            .status();
        assert!(made.unwrap().success());
        let (base, _) = server.rsplit_once('/').unwrap();
        let url = format!("{base}/{name}");
        let store = Store::postgres(&settings(&url)).unwrap();
        store.migrate(now()).await.unwrap();
        Self {
            raw: Raw::Database(url),
            ..Self::of(store.unlock(&keys("a")).await.unwrap())
        }
    }

    /// The database.
    pub(crate) fn url(&self) -> &str {
        match &self.raw {
            Raw::Database(url) => url,
            Raw::None | Raw::Folder(_) => panic!("this store has no URL"),
        }
    }

    /// Runs SQL beside the store.
    pub(crate) fn sql(&self, sql: &str) {
        match &self.raw {
            Raw::None => panic!("nothing to run SQL on"),
            Raw::Folder(folder) => {
                let file = folder.path().join("hookline.db");
                let mut conn = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
                conn.batch_execute(sql).unwrap();
            }
            Raw::Database(url) => {
                let done = Command::new("psql").args([url, "-Xqc", sql]).status();
                assert!(done.unwrap().success());
            }
        }
    }

    /// Asks for a number beside the store.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let sql = format!("SELECT CAST(({sql}) AS BIGINT) AS value");
        match &self.raw {
            Raw::None => panic!("nothing to run SQL on"),
            Raw::Folder(folder) => {
                let file = folder.path().join("hookline.db");
                let mut conn = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
                let number: Number = diesel::sql_query(sql).get_result(&mut conn).unwrap();
                number.value
            }
            Raw::Database(url) => {
                let asked = Command::new("psql").args([url, "-XqAtc", &sql]).output();
                let answer = String::from_utf8(asked.unwrap().stdout).unwrap();
                answer.trim().parse().unwrap()
            }
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.raw, Raw::Database(_))
    }

    /// The same store without its keys.
    pub(crate) fn locked(&self) -> Store {
        match &self.raw {
            Raw::None => panic!("no way around the store"),
            Raw::Folder(folder) => Store::beside_embedded(folder.path()).unwrap(),
            Raw::Database(url) => Store::postgres(&settings(url)).unwrap(),
        }
    }

    pub(crate) async fn subscribe(&self, owner: &str) -> Subscription {
        let body = json!({"name": "n", "url": "https://example.com", "events": ["workflow.failed"], "secret": "s"});
        let new = NewSubscription::from_json(body, &TargetRules::default(), [7; 32]).unwrap();
        match self
            .store
            .create_subscription(organization(owner), new, 1_000, now())
            .await
            .unwrap()
        {
            CreateResult::Subscription(subscription) => subscription,
            CreateResult::LimitReached => panic!("the limit is reached"),
        }
    }

    pub(crate) async fn intake(&self, events: Vec<IncomingEvent>) -> IntakeResult {
        self.store
            .intake(&self.index, events.into(), now())
            .await
            .unwrap()
    }

    /// One event to one subscription: its delivery's first attempt.
    pub(crate) async fn task(&self, owner: &str, event_id: &str) -> AttemptTask {
        let given = self.intake(vec![event(owner, event_id)]).await;
        given.tasks[0]
    }

    pub(crate) async fn record(&self, records: Vec<AttemptRecord>) -> HashSet<DeliveryId> {
        self.store.record(Arc::from(records)).await.unwrap()
    }
}

pub(crate) fn organization(id: &str) -> OrganizationId {
    OrganizationId::parse(id).unwrap()
}

pub(crate) fn event(owner: &str, id: &str) -> IncomingEvent {
    let json = json!({
        "event_id": id, "event_type": "workflow.failed", "workflow_id": "w", "organization_id": owner,
        "timestamp": "2025-12-21T10:30:00Z", "data": {},
    });
    let event = Event::from_json(json.to_string().as_bytes(), MissingId::Refused).unwrap();
    IncomingEvent { event, trace: None }
}

/// An attempt with this status.
pub(crate) fn attempted(
    task: AttemptTask,
    subscription: SubscriptionId,
    event: &IncomingEvent,
    next_step: NextStep,
) -> AttemptRecord {
    let status = if next_step == NextStep::Delivered {
        200
    } else {
        500
    };
    AttemptRecord {
        task,
        kind: DeliveryKind::Event,
        run: RetryRun::default(),
        organization: event.event.organization.clone(),
        subscription,
        event: EventKey::of(&event.event.organization, &event.event.id),
        event_type: event.event.event_type,
        url: TargetUrl::from_store("https://example.com"),
        activation: 0,
        outcome: AttemptOutcome::Answered(ReceiverResponse {
            status,
            body: "ok".to_owned(),
            retry_after: None,
            location: None,
        }),
        http: HttpLog::default(),
        started: now(),
        took: Duration::from_millis(3),
        next_step,
    }
}
