//! One field of a subscription, tried with POST and with PATCH.

use anyhow::ensure;
use hookline_testkit::client::ApiClient;
use serde_json::{Value, json};

pub(super) fn good() -> Value {
    json!({"name": "n", "url": "https://example.com/h", "events": ["workflow.failed"]})
}

pub(super) fn with(field: &str, value: Value) -> Value {
    let mut body = good();
    body[field] = value;
    body
}

/// One field of a subscription, tried with POST and with PATCH.
pub(super) struct Field<'a> {
    pub(super) client: &'a ApiClient,
    name: &'a str,
    path: String,
}

impl<'a> Field<'a> {
    pub(super) async fn of(client: &'a ApiClient, name: &'a str) -> anyhow::Result<Self> {
        let path = format!("/webhooks/{}", client.subscribe(&good()).await?);
        Ok(Self { client, name, path })
    }

    pub(super) async fn takes(&self, value: Value) -> anyhow::Result<()> {
        let made = self
            .client
            .post("/webhooks", &with(self.name, value.clone()))
            .await?
            .expect(201)?;
        let changed = self
            .client
            .patch(&self.path, &json!({self.name: value}))
            .await?
            .expect(200)?;
        for shown in [&made.json, &changed.json] {
            match (self.name, &value) {
                ("secret", _) => ensure!(shown["has_secret"] == true),
                ("headers", Value::Object(headers)) => {
                    let names = shown["header_names"].as_array().map_or(0, Vec::len);
                    ensure!(names == headers.len());
                }
                _ => ensure!(
                    shown[self.name] == value,
                    "{value} is shown as {}",
                    shown[self.name]
                ),
            }
        }
        self.client
            .delete(&format!("/webhooks/{}", made.json["id"]))
            .await?
            .expect(204)?;
        Ok(())
    }

    /// Refuses it and names `field` alone; nothing is made or changed.
    pub(super) async fn refuses(&self, value: Value, field: &str) -> anyhow::Result<()> {
        let before = self.client.get("/webhooks").await?.expect(200)?.json;
        for answer in [
            self.client
                .post("/webhooks", &with(self.name, value.clone()))
                .await?,
            self.client
                .patch(&self.path, &json!({self.name: value}))
                .await?,
        ] {
            ensure!(answer.status == 422, "{value} was taken: {}", answer.json);
            let refused = answer.problem(422)?;
            ensure!(refused.bad_fields() == [field], "{value}: {}", refused.json);
        }
        ensure!(self.client.get("/webhooks").await?.json == before);
        Ok(())
    }
}
