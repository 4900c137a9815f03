//! A client of Server-Sent Events (the HTML standard, 9.2).

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hookline_testkit::client::ApiClient;
use hookline_testkit::waiting::{PATIENCE, until};
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::timeout;

/// Waits until the log of a subscription has this many attempts.
pub(super) async fn wait_for_attempts(
    client: &ApiClient,
    subscription: i64,
    count: usize,
) -> anyhow::Result<()> {
    let path = format!("/webhooks/{subscription}/logs?limit=1");
    until("attempts in the log", async || {
        let total = client.get(&path).await?.expect(200)?.json["total"].as_u64();
        Ok((total >= Some(count as u64)).then_some(()))
    })
    .await
}

pub(super) struct EventStream {
    response: Response,
    read: Vec<u8>,
    /// The `id` of the last block, also of one without an event.
    pub(super) last_id: String,
}

#[derive(Debug)]
pub(super) struct StreamEvent {
    pub(super) name: String,
    pub(super) data: Value,
    /// What the client would send as `Last-Event-ID` after it.
    pub(super) id: String,
}

impl StreamEvent {
    pub(super) fn is(&self, name: &str, field: &str, value: &str) -> bool {
        self.name == name && self.data[field] == value
    }
}

impl EventStream {
    /// Opens a stream and waits for its first id.
    pub(super) async fn open(
        client: &ApiClient,
        path: &str,
        last_id: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut request = client.request(Method::GET, path);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        ensure!(
            status == 200,
            "{path}: {status}: {}",
            response.text().await?
        );
        let kind = response.headers().get("content-type");
        ensure!(
            kind.is_some_and(|kind| kind == "text/event-stream"),
            "{kind:?}"
        );
        Ok(Self {
            response,
            read: Vec::new(),
            last_id: last_id.unwrap_or_default().to_owned(),
        })
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> anyhow::Result<StreamEvent> {
        let next = timeout(PATIENCE, self.event()).await;
        next.context("no event and no end")??
            .context("the stream has ended")
    }

    /// Reads the first id, so that all that happens from now on comes.
    pub(super) async fn begin(&mut self) -> anyhow::Result<String> {
        while self.last_id.is_empty() {
            ensure!(self.block().await?.is_some(), "the stream has ended");
        }
        Ok(self.last_id.clone())
    }

    /// Waits for an end as HTTP knows it: with the last chunk.
    pub(super) async fn ends_within(&mut self, limit: Duration) -> anyhow::Result<()> {
        let ended = async {
            while let Some(event) = self.event().await? {
                println!("{event:?} before the end");
            }
            anyhow::Ok(())
        };
        timeout(limit, ended).await.context("the stream goes on")?
    }

    async fn event(&mut self) -> anyhow::Result<Option<StreamEvent>> {
        while let Some(block) = self.block().await? {
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| line.strip_prefix(&format!("{name}: ")))
            };
            if let Some(data) = field("data") {
                return Ok(Some(StreamEvent {
                    name: field("event").unwrap_or_default().to_owned(),
                    data: serde_json::from_str(data)?,
                    id: self.last_id.clone(),
                }));
            }
        }
        Ok(None)
    }

    /// The lines up to an empty one.
    async fn block(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(end) = self.read.windows(2).position(|two| two == b"\n\n") {
                let rest = self.read.split_off(end + 2);
                let block = String::from_utf8(std::mem::replace(&mut self.read, rest))?;
                if let Some(id) = block.lines().find_map(|line| line.strip_prefix("id: ")) {
                    self.last_id = id.to_owned();
                }
                return Ok(Some(block));
            }
            match self.response.chunk().await? {
                Some(bytes) => self.read.extend(bytes),
                None if self.read.is_empty() => return Ok(None),
                None => bail!("half a block: {}", String::from_utf8_lossy(&self.read)),
            }
        }
    }
}
