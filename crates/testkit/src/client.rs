//! A client of the API, as a user's would be.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::contract::{Contract, Exchange};
use crate::http::http_client;

/// Talks to one API with one key.
#[derive(Debug, Clone)]
pub struct ApiClient {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
    organization: Option<String>,
    contract: Option<Arc<Contract>>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct ApiResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body; null where it is no JSON.
    pub json: Value,
}

impl ApiResponse {
    /// The answer, if it has this status.
    pub fn expect(self, status: u16) -> anyhow::Result<Self> {
        ensure!(
            self.status.as_u16() == status,
            "expected {status}, got {}: {}",
            self.status,
            self.json
        );
        Ok(self)
    }

    /// The answer, if it is a problem document of this status with all members that RFC 9457 asks for.
    ///
    /// # Errors
    /// When it is no such problem document; the text shows the body.
    pub fn problem(self, status: u16) -> anyhow::Result<Self> {
        let answer = self.expect(status)?;
        let content_type = answer.header("content-type");
        ensure!(
            content_type == "application/problem+json",
            "a problem of type {content_type:?}: {}",
            answer.json
        );
        let has_text = |name: &str| {
            answer.json[name]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        };
        ensure!(
            has_text("type")
                && has_text("title")
                && has_text("detail")
                && answer.json["status"] == status,
            "no whole problem: {}",
            answer.json
        );
        ensure!(
            answer.json["request_id"] == answer.header("x-request-id"),
            "another request id in the body: {answer:?}"
        );
        ensure!(
            (status == 422) != answer.bad_fields().is_empty(),
            "fields are named by a 422 alone: {}",
            answer.json
        );
        Ok(answer)
    }

    /// A header's value; empty without it.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The fields that a 422 names, in order.
    pub fn bad_fields(&self) -> Vec<String> {
        let errors = self.json["errors"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        errors
            .iter()
            .map(|error| error["field"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

impl ApiClient {
    /// A client of the API at `base`, such as `http://127.0.0.1:8080/v1`.
    pub fn new(base: &str, key: &str) -> Self {
        Self {
            http: http_client(),
            base: base.to_owned(),
            key: Some(key.to_owned()),
            organization: None,
            contract: None,
        }
    }

    /// The same client, which fails where a request or an answer is not as the contract has it.
    #[must_use]
    pub fn checked_by(&self, contract: Arc<Contract>) -> Self {
        Self {
            contract: Some(contract),
            ..self.clone()
        }
    }

    /// The same client with another key, or none.
    #[must_use]
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self {
            key: key.map(str::to_owned),
            ..self.clone()
        }
    }

    /// The same client of the API at another base.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self {
            base: base.to_owned(),
            ..self.clone()
        }
    }

    /// The same client that names an organization.
    #[must_use]
    pub fn in_organization(&self, organization: &str) -> Self {
        Self {
            organization: Some(organization.to_owned()),
            ..self.clone()
        }
    }

    /// A request that is still open to changes.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(organization) = &self.organization {
            request = request.header("x-org-id", organization);
        }
        request
    }

    /// Sends a request.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<ApiResponse> {
        let request = request.build()?;
        let (method, url) = (request.method().clone(), request.url().clone());
        let sent = self.contract.as_ref().and(request.body());
        let sent = sent.and_then(|body| body.as_bytes()).map(<[u8]>::to_vec);
        let response = self.http.execute(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let received = response.bytes().await?;
        let json = serde_json::from_slice(&received).unwrap_or_default();
        let answer = ApiResponse {
            status,
            headers,
            json,
        };
        if let Some(contract) = &self.contract {
            contract
                .check(Exchange {
                    method: &method,
                    path: url.as_str().strip_prefix(&self.base).unwrap_or_default(),
                    sent: sent.as_deref(),
                    status: status.as_u16(),
                    content_type: answer.header("content-type"),
                    received: &received,
                })
                .await?;
        }
        Ok(answer)
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<ApiResponse> {
        self.send(self.request(Method::GET, path)).await
    }

    /// POST of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<ApiResponse> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// PATCH of a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<ApiResponse> {
        self.send(self.request(Method::PATCH, path).json(body))
            .await
    }

    pub async fn delete(&self, path: &str) -> anyhow::Result<ApiResponse> {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Creates a subscription and returns its id.
    pub async fn subscribe(&self, body: &Value) -> anyhow::Result<i64> {
        let created = self.post("/webhooks", body).await?.expect(201)?;
        created.json["id"]
            .as_i64()
            .context("a subscription without an id")
    }

    /// The whole log of a subscription, oldest first.
    pub async fn log_of(&self, subscription: i64) -> anyhow::Result<Vec<Value>> {
        let page = self
            .get(&format!("/webhooks/{subscription}/logs?limit=100"))
            .await?
            .expect(200)?;
        let mut logs = page.json["logs"]
            .as_array()
            .cloned()
            .context("a page without logs")?;
        logs.reverse();
        Ok(logs)
    }

    /// Waits until a subscription's log has `count` entries or more, oldest first.
    pub async fn wait_for_log(
        &self,
        subscription: i64,
        count: usize,
    ) -> anyhow::Result<Vec<Value>> {
        crate::waiting::until(
            &format!("{count} log entries of {subscription}"),
            async || {
                let logs = self.log_of(subscription).await?;
                Ok((logs.len() >= count).then_some(logs))
            },
        )
        .await
    }
}
