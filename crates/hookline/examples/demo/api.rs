//! A client of the REST API.

use anyhow::{Context as _, ensure};
use hookline_core::event::Event;
use hookline_testkit::client::ApiClient;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// Entries of a page. The API allows no more.
const PAGE: usize = 100;

/// The API with the key of one organization.
pub(crate) struct Api(ApiClient);

/// An attempt in the log.
#[derive(Debug, Clone)]
pub(crate) struct LogEntry {
    pub(crate) delivery_id: String,
    pub(crate) subscription_id: i64,
    pub(crate) attempt: u64,
    pub(crate) trigger: String,
    pub(crate) is_success: bool,
    pub(crate) response_status: Option<u64>,
    pub(crate) created_at: String,
    pub(crate) next_attempt_at: Option<String>,
}

/// The state of a subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) is_active: bool,
    pub(crate) disabled_reason: Option<String>,
}

impl Api {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        Self(ApiClient::new(&format!("{url}/v1"), key))
    }

    /// Returns the id of the new subscription.
    pub(crate) async fn subscribe(&self, subscription: &Value) -> anyhow::Result<i64> {
        self.0.subscribe(subscription).await
    }

    /// Returns when all events are durable.
    pub(crate) async fn publish(&self, events: &[&Event]) -> anyhow::Result<()> {
        let bodies: Vec<&str> = events
            .iter()
            .map(|event| std::str::from_utf8(&event.body))
            .collect::<Result<_, _>>()?;
        let request = self.0.request(Method::POST, "/events");
        let request = request.header("content-type", "application/json");
        let request = request.body(format!("[{}]", bodies.join(",")));
        let answer = self.ask(request, 202).await?;
        let accepted = answer["accepted"].as_array().map_or(0, Vec::len);
        ensure!(
            accepted == events.len(),
            "{accepted} of {} events were accepted",
            events.len()
        );
        Ok(())
    }

    pub(crate) async fn state(&self, subscription: i64) -> anyhow::Result<State> {
        let found = self.get(&format!("/webhooks/{subscription}")).await?;
        Ok(State {
            is_active: found["is_active"] == true,
            disabled_reason: text(&found, "disabled_reason"),
        })
    }

    /// The attempts of a subscription, oldest first.
    pub(crate) async fn log_of(&self, subscription: i64) -> anyhow::Result<Vec<LogEntry>> {
        self.log(&format!("/webhooks/{subscription}/logs")).await
    }

    /// The attempts of the organization, oldest first.
    pub(crate) async fn whole_log(&self) -> anyhow::Result<Vec<LogEntry>> {
        self.log("/webhooks/logs/all").await
    }

    /// Reads all pages. Each page has the cursor of the next one.
    async fn log(&self, path: &str) -> anyhow::Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        let mut next = String::new();
        loop {
            let page = self.get(&format!("{path}?limit={PAGE}{next}")).await?;
            let logs = page["logs"].as_array().context("a page without logs")?;
            for log in logs {
                entries.push(LogEntry::read(log).with_context(|| format!("log entry {log}"))?);
            }
            match text(&page, "next_cursor") {
                Some(cursor) => next = format!("&cursor={cursor}"),
                None => break,
            }
        }
        entries.reverse();
        Ok(entries)
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(self.0.request(Method::GET, path), 200).await
    }

    async fn ask(&self, request: RequestBuilder, status: u16) -> anyhow::Result<Value> {
        Ok(self.0.send(request).await?.expect(status)?.json)
    }
}

impl LogEntry {
    fn read(log: &Value) -> Option<Self> {
        Some(Self {
            delivery_id: text(log, "delivery_id")?,
            subscription_id: log["subscription_id"].as_i64()?,
            attempt: log["attempt"].as_u64()?,
            trigger: text(log, "trigger")?,
            is_success: log["status"] == "success",
            response_status: log["response_status"].as_u64(),
            created_at: text(log, "created_at")?,
            next_attempt_at: text(log, "next_attempt_at"),
        })
    }
}

fn text(of: &Value, name: &str) -> Option<String> {
    of[name].as_str().map(str::to_owned)
}
