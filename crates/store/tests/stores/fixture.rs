//! A fresh store, and what sentences put into it.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::delivery::{Origin, OwedAttempt, Run};
use hookline_core::event::{Event, MissingId};
use hookline_core::ids::{DeliveryId, EventKey, OrganizationId, SubscriptionId};
use hookline_core::outcome::{Answer, Outcome};
use hookline_core::subscription::{NewSubscription, Subscription};
use hookline_core::target::{TargetRules, TargetUrl};
use hookline_core::timestamp::Timestamp;
use hookline_store::{
    AttemptRecord, Created, FanoutIndex, Follow, Given, IncomingEvent, Passage, PostgresSettings,
    Store,
};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

/// Runs a sentence on both backends: `on_both!(name)` makes `embedded::name` and `postgres::name`.
macro_rules! on_both {
    ($($sentence:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test] async fn $sentence() { super::$sentence(crate::fixture::Fixture::embedded()).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $sentence() { super::$sentence(crate::fixture::Fixture::postgres().await).await; })*
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

pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) index: FanoutIndex,
    /// The database, where it is one.
    pub(crate) url: String,
    _folder: Option<TempDir>,
}

impl Fixture {
    pub(crate) fn of(store: Store) -> Self {
        Self {
            store,
            index: FanoutIndex::default(),
            url: String::new(),
            _folder: None,
        }
    }

    pub(crate) fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::embedded(folder.path()).unwrap();
        Self {
            _folder: Some(folder),
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
        let store = Store::postgres(&PostgresSettings {
            url: url.clone(),
            connections: 8,
            wait: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
        })
        .unwrap();
        store.migrate(now()).await.unwrap();
        Self {
            url,
            ..Self::of(store)
        }
    }

    /// Runs SQL in the database.
    pub(crate) fn sql(&self, sql: &str) {
        let ran = Command::new("psql").args([&self.url, "-Xqc", sql]).status();
        assert!(ran.unwrap().success());
    }

    pub(crate) async fn subscribe(&self, owner: &str) -> Subscription {
        let body = json!({"name": "n", "url": "https://example.com", "events": ["workflow.failed"], "secret": "s"});
        let new = NewSubscription::from_json(body, &TargetRules::default()).unwrap();
        match self
            .store
            .create_subscription(organization(owner), new, 1_000, now())
            .await
            .unwrap()
        {
            Created::Subscription(subscription) => subscription,
            Created::LimitReached => panic!("the limit is reached"),
        }
    }

    pub(crate) async fn take_in(&self, events: Vec<IncomingEvent>) -> Given {
        self.store
            .take_in(&self.index, events.into(), now())
            .await
            .unwrap()
    }

    /// One event to one subscription: its delivery's first attempt.
    pub(crate) async fn owed(&self, owner: &str, event_id: &str) -> OwedAttempt {
        let given = self.take_in(vec![event(owner, event_id)]).await;
        given.owed[0]
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
    IncomingEvent {
        event,
        trace: None,
        passage: Passage::First,
    }
}

/// An attempt with this status.
pub(crate) fn attempted(
    owed: OwedAttempt,
    subscription: SubscriptionId,
    event: &IncomingEvent,
    follow: Follow,
) -> AttemptRecord {
    let status = if follow == Follow::Delivered {
        200
    } else {
        500
    };
    AttemptRecord {
        owed,
        origin: Origin::Event,
        run: Run::default(),
        organization: event.event.organization.clone(),
        subscription,
        event: EventKey::of(&event.event.organization, &event.event.id),
        event_type: event.event.event_type,
        url: TargetUrl::from_store("https://example.com"),
        outcome: Outcome::Answered(Answer {
            status,
            body: "ok".to_owned(),
            retry_after: None,
        }),
        started: now(),
        took: Duration::from_millis(3),
        follow,
    }
}
