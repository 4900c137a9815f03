//! Walks the OpenAPI document that the API itself serves, and by that tries each new route, too. A test beside the
//! routes checks that the document has every route.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use hookline_testkit::client::{ApiClient, ApiResponse};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::Receiver;
use hookline_testkit::tenant::Tenant;
use hookline_testkit::waiting::until;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::api_keys::key_line;

/// A call that needs a key.
struct Call {
    method: Method,
    path: String,
    scope: String,
    body: Option<Value>,
}

pub(super) async fn every_route_asks_for_a_good_key_of_its_organization_and_scope(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (ours, theirs) = (deployment.tenant().await?, deployment.tenant().await?);
    let receiver = Receiver::healthy()?;
    let id = theirs.subscribe(&receiver, &["workflow.started"]).await?;
    let event = theirs.publish_one("workflow.started").await?;
    theirs.client.wait_for_log(id, 1).await?;
    let named = Named::of(&theirs, id, event).await?;
    let before = all_of(&theirs, &named).await?;
    let calls = calls(&deployment).await?;
    ensure!(calls.len() > 10, "{} calls", calls.len());

    let org = ours.organization.as_str();
    let revoked = deployment.key(&["--org", org, "--name", "revoked"]).await?;
    let line = key_line(&deployment, org, "revoked").await?;
    deployment.hookline(&["key", "revoke", &line[0]]).await?;
    let expired = deployment.key(&["--org", org, "--expires", "1s"]).await?;
    until("the end of a key", async || {
        let answer = ours
            .client
            .with_key(Some(&expired))
            .get("/webhooks")
            .await?;
        Ok((answer.status.as_u16() == 401).then_some(()))
    })
    .await?;
    let mut scoped = Vec::new();
    for scope in ["read", "write", "publish"] {
        let key = deployment.key(&["--org", org, "--scopes", scope]).await?;
        scoped.push((scope, key));
    }

    for base in ["/v1", ""] {
        let ours = ours.client.at(&format!("{}{base}", deployment.api()));
        for call in &calls {
            let path = call.path_to(&named)?;
            let ask = async |client: &ApiClient| call.ask(client, &path).await;
            let description = format!("{} {base}{}", call.method, call.path);
            for key in [None, Some("hk_wrong"), Some(&revoked), Some(&expired)] {
                let refused = ask(&ours.with_key(key)).await?.problem(401);
                refused.with_context(|| format!("{description} with {key:?}"))?;
            }
            let elsewhere = ours.in_organization(&theirs.organization);
            let refused = ask(&elsewhere).await?.problem(403);
            refused.with_context(|| format!("{description} in another organization"))?;
            for (scope, key) in scoped.iter().filter(|(scope, _)| *scope != call.scope) {
                let refused = ask(&ours.with_key(Some(key))).await?.problem(403);
                refused.with_context(|| format!("{description} with {scope}"))?;
            }
            if call.method == Method::POST {
                let refused = call.ask_as("a b", &ours, &path).await?.problem(422)?;
                ensure!(
                    refused.bad_fields() == ["Idempotency-Key"],
                    "{description} ignores its Idempotency-Key: {refused:?}"
                );
            }
            if call.path.contains('{') {
                let hidden = ask(&ours).await?.problem(404);
                hidden.with_context(|| format!("{description} of another organization"))?;
            }
        }
    }
    let events = json!([theirs.event("workflow.started")]);
    ours.client.post("/events", &events).await?.problem(403)?;
    foreign_ids_in_queries_find_nothing(&ours, &theirs, &named).await?;
    let after = all_of(&theirs, &named).await?;
    ensure!(before == after, "{before:#?} became {after:#?}");
    let requests = receiver.received().len();
    ensure!(requests == 2, "{requests} requests: one, and its replay");
    Ok(())
}

/// Ids and cursors also stand in queries and bodies.
async fn foreign_ids_in_queries_find_nothing(
    ours: &Tenant<'_>,
    theirs: &Tenant<'_>,
    named: &Named,
) -> anyhow::Result<()> {
    let receiver = Receiver::healthy()?;
    let own = ours.subscribe(&receiver, &["workflow.failed"]).await?;
    let page = theirs.client.get("/webhooks/logs/all?limit=1").await?;
    let cursor = page.expect(200)?.json["next_cursor"].clone();
    let cursor = cursor.as_str().context("a cursor")?;
    for path in [
        format!("/webhooks/{own}/deliveries"),
        format!("/webhooks/{own}/deliveries?event_type=workflow.started"),
        "/webhooks/logs/all".to_owned(),
    ] {
        let answer = ours.client.get(&path).await?.expect(200)?.json;
        let rows = answer.get("logs").or_else(|| answer.get("deliveries"));
        ensure!(rows == Some(&json!([])), "{path}: {answer}");
    }
    for path in [
        format!("/webhooks/{own}/logs"),
        "/webhooks/logs/all".to_owned(),
    ] {
        let path = format!("{path}?cursor={cursor}");
        ours.client.get(&path).await?.problem(422)?;
    }
    let listed = ours.client.get("/webhooks").await?.expect(200)?.json;
    let listed = listed["webhooks"].as_array().context("a list")?;
    let their_id: i64 = named.webhook.parse()?;
    let foreign = |one: &&Value| one["id"] == their_id;
    ensure!(listed.iter().all(|one| !foreign(&one)), "{listed:?}");
    // The same event id is another event here.
    let mut event = ours.event("workflow.started");
    event["event_id"] = json!(named.event);
    ours.client.post("/events", &event).await?.expect(202)?;
    until("an event of our own", async || {
        let details = ours.client.get(&format!("/events/{}", named.event)).await?;
        Ok((details.status.as_u16() == 200).then_some(()))
    })
    .await
}

/// All that the API shows of an organization.
async fn all_of(tenant: &Tenant<'_>, named: &Named) -> anyhow::Result<Vec<Value>> {
    let Named {
        webhook,
        delivery,
        event,
        replay,
    } = named;
    let mut all = Vec::new();
    for path in [
        "/webhooks".to_owned(),
        format!("/webhooks/{webhook}"),
        format!("/webhooks/{webhook}/logs"),
        format!("/webhooks/{webhook}/deliveries"),
        "/webhooks/logs/all".to_owned(),
        format!("/deliveries/{delivery}"),
        format!("/events/{event}"),
        format!("/replays/{replay}"),
    ] {
        all.push(tenant.client.get(&path).await?.expect(200)?.json);
    }
    Ok(all)
}

/// The ids of a foreign organization that paths may name.
struct Named {
    webhook: String,
    delivery: String,
    event: String,
    replay: String,
}

impl Named {
    /// With a replay of the one delivery that has come to its end.
    async fn of(tenant: &Tenant<'_>, id: i64, event: String) -> anyhow::Result<Self> {
        let path = format!("/webhooks/{id}/replay");
        let body = json!({"status": "delivered"});
        let started = tenant.client.post(&path, &body).await?.expect(202)?;
        let replay = started.json["replay_id"].as_str().context("a replay")?;
        until("the end of the replay", async || {
            let path = format!("/replays/{replay}");
            let shown = tenant.client.get(&path).await?.expect(200)?.json;
            Ok((shown["status"] != "running").then_some(()))
        })
        .await?;
        let log = tenant.client.wait_for_log(id, 2).await?;
        let delivery = log[0]["delivery_id"].as_str().context("a delivery")?;
        Ok(Self {
            webhook: id.to_string(),
            delivery: delivery.to_owned(),
            event,
            replay: replay.to_owned(),
        })
    }
}

impl Call {
    fn path_to(&self, named: &Named) -> anyhow::Result<String> {
        let Some((before, after)) = self.path.split_once('{') else {
            return Ok(self.path.clone());
        };
        let (_, after) = after.split_once('}').context("an open brace")?;
        let id = match before {
            "/webhooks/" => &named.webhook,
            "/deliveries/" => &named.delivery,
            "/events/" => &named.event,
            "/replays/" => &named.replay,
            _ => bail!("{}: say here what of others its id may name", self.path),
        };
        ensure!(!after.contains('{'), "{}: two ids", self.path);
        Ok(format!("{before}{id}{after}"))
    }

    async fn ask(&self, client: &ApiClient, path: &str) -> anyhow::Result<ApiResponse> {
        client.send(self.request(client, path)).await
    }

    /// With an idempotency key.
    async fn ask_as(
        &self,
        key: &str,
        client: &ApiClient,
        path: &str,
    ) -> anyhow::Result<ApiResponse> {
        let request = self.request(client, path);
        client.send(request.header("idempotency-key", key)).await
    }

    fn request(&self, client: &ApiClient, path: &str) -> RequestBuilder {
        let request = client.request(self.method.clone(), path);
        match &self.body {
            Some(body) => request.json(body),
            None => request,
        }
    }
}

async fn calls(deployment: &Deployment) -> anyhow::Result<Vec<Call>> {
    let without_key = ApiClient::new(&deployment.api(), "").with_key(None);
    let document = without_key.get("/openapi.json").await?.expect(200)?.json;
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().context("no paths")? {
        for (method, operation) in item.as_object().context("no operations")? {
            let Some(security) = operation["security"].get(0) else {
                continue;
            };
            let scope = security["api_key"][0].as_str();
            let content = &operation["requestBody"]["content"]["application/json"];
            let body = operation
                .get("requestBody")
                .map(|_| example(&document, &content["schema"]));
            calls.push(Call {
                method: method.to_uppercase().parse()?,
                path: path.clone(),
                scope: scope
                    .with_context(|| format!("{method} {path}: no scope"))?
                    .to_owned(),
                body,
            });
        }
    }
    Ok(calls)
}

/// The example of a body; one without any is tried empty, which does for a call without an id.
fn example(document: &Value, schema: &Value) -> Value {
    let of = |schema: &Value| schema.get("example").cloned();
    let referred = schema["$ref"]
        .as_str()
        .and_then(|reference| document.pointer(reference.strip_prefix('#')?));
    of(schema)
        .or_else(|| referred.and_then(of))
        .unwrap_or_else(|| json!({}))
}

pub(super) async fn a_key_expires_and_shows_its_last_use(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant: Tenant<'_> = deployment.tenant().await?;
    let org = tenant.organization.as_str();
    let args = ["--org", org, "--name", "for a day", "--expires", "1d"];
    let key = deployment.key(&args).await?;
    let before = key_line(&deployment, org, "for a day").await?;
    ensure!(before[3] == "active", "{before:?}");
    ensure!(
        before[4].starts_with("20") && before[5] == "never used",
        "{before:?}"
    );
    let client = tenant.client.with_key(Some(&key));
    client.get("/webhooks").await?.expect(200)?;
    until("the use of the key", async || {
        let line = key_line(&deployment, org, "for a day").await?;
        Ok(line[5].starts_with("20").then_some(()))
    })
    .await?;
    deployment
        .key(&["--org", org, "--name", "short", "--expires", "1s"])
        .await?;
    until("the end of the short one", async || {
        let line = key_line(&deployment, org, "short").await?;
        Ok((line[3] == "expired").then_some(()))
    })
    .await?;
    let forever = key_line(&deployment, org, "").await?;
    ensure!(forever[4] == "no expiry", "{forever:?}");
    for bad in ["0d", "-1d", "soon"] {
        let made = deployment.key(&["--org", org, "--expires", bad]).await;
        ensure!(made.is_err(), "--expires {bad} went through");
    }
    Ok(())
}
