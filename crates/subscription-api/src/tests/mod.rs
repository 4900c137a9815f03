//! The API as a client sees it, with an embedded store and a publisher that records what it publishes.

mod access;
mod connections;
mod cors;
mod cursors;
mod deliveries;
mod event_types;
mod filters;
mod idempotency;
mod limits;
mod logs;
mod pages;
mod parameters;
mod publishing;
mod replays;
mod served;
mod stats;
mod streams;
mod subscription_filters;
mod subscriptions;
mod test_calls;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use actix_web::http::header::HeaderMap;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use async_trait::async_trait;
use hookline_core::access::Scope;
use hookline_core::ids::OrganizationId;
use hookline_core::master_key::{MasterKey, MasterKeyId};
use hookline_core::operational_events::WebhookDisabled;
use hookline_core::target::TargetRules;
use hookline_core::timestamp::Timestamp;
use hookline_queue::{PublishedEvents, Publisher, QueueError, Scheduled};
use hookline_runtime::readiness::Readiness;
use hookline_store::{KeyHash, NewKey, Store};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::server::{Server, app};
use crate::{Api, ApiConfig, CorsOrigins, TrustedProxies};

/// A key of `org_a` (its default organization) and `org_b`, with every scope.
const KEY: &str = "key-of-a-and-b";

/// The behaviour of the publisher.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u8)]
enum PublisherMode {
    Up,
    Down,
    Hanging,
    Panicking,
}

/// Records events and attempts.
struct RecordingPublisher {
    mode: AtomicU8,
    events: Mutex<Vec<PublishedEvents>>,
    attempts: Mutex<Vec<Scheduled>>,
}

impl RecordingPublisher {
    async fn simulate(&self) -> Result<(), QueueError> {
        match self.mode.load(Ordering::Relaxed) {
            mode if mode == PublisherMode::Up as u8 => Ok(()),
            mode if mode == PublisherMode::Down as u8 => {
                Err(QueueError::Unavailable("amqp://10.0.0.7".to_owned()))
            }
            mode if mode == PublisherMode::Hanging as u8 => std::future::pending().await,
            _ => panic!("publisher panic"),
        }
    }
}

#[async_trait]
impl Publisher for RecordingPublisher {
    async fn publish_events(&self, events: PublishedEvents) -> Result<(), QueueError> {
        self.simulate().await?;
        self.events.lock().unwrap().push(events);
        Ok(())
    }

    fn wake(&self, due: &[Scheduled]) {
        self.attempts.lock().unwrap().extend(due);
    }

    async fn announce(&self, _: &[WebhookDisabled]) -> Result<(), QueueError> {
        self.simulate().await
    }

    async fn rejected_count(&self) -> Result<u64, QueueError> {
        Ok(0)
    }

    fn is_ready(&self) -> bool {
        true
    }
}

/// The API with its own store.
struct TestApi {
    server: Server,
    publisher: Arc<RecordingPublisher>,
    _folder: tempfile::TempDir,
}

#[derive(Debug)]
struct TestResponse {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl TestResponse {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The fields of a validation problem, separated by spaces.
    fn invalid_fields(&self) -> String {
        assert_eq!(self.status, 422, "{self:?}");
        let errors = &self.json()["errors"];
        let fields = errors.as_array().unwrap().iter();
        let names: Vec<_> = fields
            .map(|e| e["field"].as_str().unwrap().to_owned())
            .collect();
        names.join(" ")
    }

    /// Asserts that it is a problem with this status and with the common members and headers.
    #[track_caller]
    fn is_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        assert!(!self.header("x-request-id").is_empty());
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        for member in ["type", "title", "detail"] {
            assert!(problem[member].is_string(), "{problem}");
        }
        let retry_after = self.header("retry-after").parse::<u32>().is_ok();
        assert_eq!(retry_after, matches!(status, 429 | 503));
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn organization(name: &str) -> OrganizationId {
    OrganizationId::parse(name).unwrap()
}

impl TestApi {
    async fn new() -> Self {
        Self::with(ApiConfig::default()).await
    }

    async fn with(config: ApiConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, _queue) = Store::embedded(folder.path()).unwrap();
        let key = MasterKey::new(MasterKeyId::parse("k1").unwrap(), [7; 32]);
        let store = store.unlock(&key.into()).await.unwrap();
        store.migrate(now()).await.unwrap();
        for name in ["org_a", "org_b", "org_c"] {
            store
                .create_organization(organization(name), now())
                .await
                .unwrap();
        }
        let publisher = Arc::new(RecordingPublisher {
            mode: AtomicU8::new(PublisherMode::Up as u8),
            events: Mutex::default(),
            attempts: Mutex::default(),
        });
        let readiness = Readiness::default();
        readiness.register("store", || true);
        let api = Self {
            server: Server::new(
                Api {
                    store,
                    publisher: publisher.clone(),
                    rules: TargetRules::default(),
                    config,
                    proxies: TrustedProxies::default(),
                    cors: CorsOrigins::new(["https://app.example.com".to_owned()]),
                    readiness,
                },
                CancellationToken::new(),
            ),
            publisher,
            _folder: folder,
        };
        api.add_key(KEY, &["org_a", "org_b"], &Scope::ALL).await;
        api
    }

    /// Adds a key. The first organization is its default.
    async fn add_key(&self, key: &str, organizations: &[&str], scopes: &[Scope]) {
        let key = NewKey {
            hash: KeyHash::of(key),
            name: key.to_owned(),
            scopes: scopes.to_vec(),
            default_organization: organization(organizations[0]),
            organizations: organizations
                .iter()
                .map(|name| organization(name))
                .collect(),
            expires_at: None,
        };
        let store = &self.server.state.api.store;
        store.create_key(key, now()).await.unwrap().unwrap();
    }

    fn set_publisher(&self, mode: PublisherMode) {
        self.publisher.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// Sends a request without a key.
    async fn send(&self, request: TestRequest) -> TestResponse {
        let app = init_service(app(&self.server)).await;
        let response = call_service(&app, request.to_request()).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = String::from_utf8(read_body(response).await.to_vec()).unwrap();
        TestResponse {
            status,
            headers,
            text,
        }
    }

    async fn get(&self, path: &str) -> TestResponse {
        self.send(keyed(TestRequest::get().uri(path))).await
    }

    async fn post(&self, path: &str, body: Value) -> TestResponse {
        self.send(keyed(TestRequest::post().uri(path)).set_json(body))
            .await
    }

    async fn patch(&self, path: &str, body: Value) -> TestResponse {
        self.send(keyed(TestRequest::patch().uri(path)).set_json(body))
            .await
    }

    async fn delete(&self, path: &str) -> TestResponse {
        self.send(keyed(TestRequest::delete().uri(path))).await
    }

    /// Creates a subscription and returns its id.
    async fn subscribe(&self, name: &str) -> i64 {
        let response = self.post("/v1/webhooks", subscription(name)).await;
        assert_eq!(response.status, 201, "{response:?}");
        response.json()["id"].as_i64().unwrap()
    }
}

fn keyed(request: TestRequest) -> TestRequest {
    request.insert_header(("authorization", format!("Bearer {KEY}")))
}

/// A request with this body as `application/json`.
fn raw(request: TestRequest, body: impl Into<String>) -> TestRequest {
    keyed(request)
        .insert_header(("content-type", "application/json"))
        .set_payload(body.into())
}

fn subscription(name: &str) -> Value {
    json!({"name": name, "url": "https://example.com/h", "events": ["workflow.completed"]})
}

fn event(id: &str) -> Value {
    json!({
        "event_id": id, "event_type": "workflow.completed", "workflow_id": "wf",
        "organization_id": "org_a", "timestamp": "2025-12-21T10:30:00Z", "data": {},
    })
}

fn impatient() -> ApiConfig {
    ApiConfig {
        request_deadline: Duration::from_secs(1),
        ..ApiConfig::default()
    }
}
