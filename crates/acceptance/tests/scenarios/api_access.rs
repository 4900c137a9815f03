//! Access control: valid keys, their organizations and their scopes.

mod every_route;
mod rates;

use std::sync::Arc;

use anyhow::ensure;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::Receiver;
use hookline_testkit::tenant::Tenant;
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_request_without_a_valid_key_learns_nothing,
        a_key_accesses_only_its_organizations,
        every_call_needs_its_scope,
        organizations_cannot_see_each_other,
        every_route::every_route_asks_for_a_good_key_of_its_organization_and_scope,
        every_route::a_key_expires_and_shows_its_last_use,
    ]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![rates::request_rates_and_failed_logins_of_a_key_are_limited]
}

/// The calls of the API, with the scope that each needs.
const CALLS: [(Method, &str, &str); 11] = [
    (Method::GET, "/webhooks", "read"),
    (Method::GET, "/webhooks/{id}", "read"),
    (Method::GET, "/webhooks/{id}/logs", "read"),
    (Method::GET, "/webhooks/{id}/deliveries", "read"),
    (Method::GET, "/webhooks/logs/all", "read"),
    (Method::POST, "/webhooks", "write"),
    (Method::PATCH, "/webhooks/{id}", "write"),
    (Method::POST, "/webhooks/{id}/test", "write"),
    (Method::POST, "/webhooks/{id}/replay", "write"),
    (Method::DELETE, "/webhooks/{id}", "write"),
    (Method::POST, "/events", "publish"),
];

async fn a_request_without_a_valid_key_learns_nothing(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let id = tenant.client.subscribe(&subscription()).await?;
    let without_key = tenant.client.with_key(None);
    let keys = [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer hk_nobody"),
        Some("Bearer a b"),
        Some("Basic a2V5OnBhc3M="),
        Some("hk_nobody"),
    ];
    for base in ["/v1", ""] {
        let client = without_key.at(&format!("{}{base}", deployment.api()));
        for (method, path, _) in CALLS {
            for (key, id) in keys.iter().zip([id, 999_999_999].into_iter().cycle()) {
                // A caller without a key is not told that a body is nonsense either.
                let mut request =
                    client.request(method.clone(), &path.replace("{id}", &id.to_string()));
                request = request
                    .header("x-org-id", &tenant.organization)
                    .body("nonsense");
                if let Some(key) = key {
                    request = request.header("authorization", *key);
                }
                let refused = client.send(request).await?.problem(401)?;
                ensure!(refused.header("www-authenticate").starts_with("Bearer"));
            }
        }
    }
    let shown = tenant
        .client
        .get(&format!("/webhooks/{id}"))
        .await?
        .expect(200)?;
    ensure!(shown.json["name"] == "n");
    Ok(())
}

async fn a_key_accesses_only_its_organizations(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let [first, second, foreign] = [
        deployment.tenant().await?,
        deployment.tenant().await?,
        deployment.tenant().await?,
    ];
    let key = deployment
        .key(&["--org", &first.organization, "--also", &second.organization])
        .await?;
    let both = first.client.with_key(Some(&key));
    let of_first = first.client.subscribe(&subscription()).await?;
    let of_second = second.client.subscribe(&subscription()).await?;

    for (organization, seen, unseen) in [
        (None, of_first, of_second),
        (Some(&first.organization), of_first, of_second),
        (Some(&second.organization), of_second, of_first),
    ] {
        let client = match organization {
            Some(organization) => both.in_organization(organization),
            None => both.clone(),
        };
        client
            .get(&format!("/webhooks/{seen}"))
            .await?
            .expect(200)?;
        client
            .get(&format!("/webhooks/{unseen}"))
            .await?
            .problem(404)?;
        let listed = client.get("/webhooks").await?.expect(200)?.json;
        ensure!(
            listed["total"] == 1 && listed["webhooks"][0]["id"] == seen,
            "{listed}"
        );
        let made = client.subscribe(&subscription()).await?;
        client
            .delete(&format!("/webhooks/{made}"))
            .await?
            .expect(204)?;
    }

    let nowhere = "an organization that does not exist";
    let mut responses = Vec::new();
    for organization in [
        &foreign.organization,
        nowhere,
        "",
        "%",
        &first.organization.to_uppercase(),
    ] {
        let client = both.in_organization(organization);
        for (method, path, _) in CALLS {
            let request = client.request(method, &path.replace("{id}", &of_first.to_string()));
            let request = request.header("x-request-id", "the-same");
            responses.push(
                client
                    .send(request.json(&json!({})))
                    .await?
                    .problem(403)?
                    .json,
            );
        }
    }
    ensure!(
        responses.iter().all(|one| *one == responses[0]),
        "a hint of what exists: {responses:?}"
    );
    let two = both.request(Method::GET, "/webhooks");
    let two = two
        .header("x-org-id", &first.organization)
        .header("x-org-id", &second.organization);
    both.send(two).await?.problem(403)?;
    Ok(())
}

async fn every_call_needs_its_scope(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let org = tenant.organization.as_str();
    for scope in ["read", "write", "publish"] {
        let key = deployment.key(&["--org", org, "--scopes", scope]).await?;
        let client = tenant.client.with_key(Some(&key));
        let id = tenant.client.subscribe(&subscription()).await?;
        for (method, path, needed) in CALLS {
            let body = match path {
                "/events" => tenant.event("workflow.started"),
                "/webhooks" => subscription(),
                _ => json!({}),
            };
            let call = format!("{method} {path} with {scope}");
            let request = client.request(method, &path.replace("{id}", &id.to_string()));
            let answer = client.send(request.json(&body)).await?;
            if scope == needed {
                ensure!(answer.status.is_success(), "{call}: {answer:?}");
            } else {
                let refused = answer.problem(403)?;
                let detail = refused.json["detail"].as_str().unwrap_or_default();
                ensure!(detail.contains(needed), "{call}: {detail}");
            }
        }
    }
    let two = deployment
        .key(&["--org", org, "--scopes", "read,publish"])
        .await?;
    let two = tenant.client.with_key(Some(&two));
    two.get("/webhooks").await?.expect(200)?;
    two.post("/events", &tenant.event("workflow.started"))
        .await?
        .expect(202)?;
    two.post("/webhooks", &subscription()).await?.problem(403)?;
    let none = deployment.key(&["--org", org, "--scopes", "admin"]).await;
    ensure!(none.is_err(), "there is no scope admin");
    Ok(())
}

async fn organizations_cannot_see_each_other(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let (ours, theirs) = (deployment.tenant().await?, deployment.tenant().await?);
    let (our_receiver, their_receiver) = (Receiver::healthy()?, Receiver::healthy()?);
    let our_id = ours.subscribe(&our_receiver, &["workflow.failed"]).await?;
    let their_id = theirs
        .subscribe(&their_receiver, &["workflow.failed"])
        .await?;

    // One event id in two organizations is two events, each for its own.
    for tenant in [&ours, &theirs] {
        let mut event = tenant.event("workflow.failed");
        event["event_id"] = json!("evt_same");
        tenant.publish(&[event]).await?;
        tenant.publish_one("workflow.failed").await?;
    }
    for (tenant, receiver, id) in [
        (&ours, &our_receiver, our_id),
        (&theirs, &their_receiver, their_id),
    ] {
        receiver.wait_for(2).await?;
        tenant.client.wait_for_log(id, 2).await?;
        for request in receiver.received() {
            let body: Value = serde_json::from_slice(&request.body)?;
            ensure!(
                body["organization_id"] == tenant.organization.as_str(),
                "{body}"
            );
        }
        ensure!(receiver.received().len() == 2);
        let all = tenant
            .client
            .get("/webhooks/logs/all")
            .await?
            .expect(200)?
            .json;
        ensure!(
            all["total"] == 2 && all["logs"][0]["subscription_id"] == id,
            "{all}"
        );
    }

    let before = theirs
        .client
        .get(&format!("/webhooks/{their_id}"))
        .await?
        .json;
    let nobodys = at_foreign(&ours, 999_999_999).await?;
    let foreign = at_foreign(&ours, their_id).await?;
    ensure!(nobodys == foreign, "a hint that it exists: {foreign:?}");
    ensure!(
        theirs
            .client
            .get(&format!("/webhooks/{their_id}"))
            .await?
            .json
            == before
    );
    let listed = ours.client.get("/webhooks").await?.expect(200)?.json;
    ensure!(
        listed["total"] == 1 && listed["webhooks"][0]["id"] == our_id,
        "{listed}"
    );
    Ok(())
}

/// The answers to calls for a subscription of another organization: each is 404.
async fn at_foreign(tenant: &Tenant<'_>, id: i64) -> anyhow::Result<Vec<Value>> {
    let mut responses = Vec::new();
    for (method, path, _) in CALLS {
        if path.contains("{id}") {
            let body = match method {
                Method::PATCH => json!({"name": "taken over"}),
                _ => json!({}),
            };
            let request = tenant
                .client
                .request(method, &path.replace("{id}", &id.to_string()))
                .header("x-request-id", "the-same");
            let answer = tenant.client.send(request.json(&body)).await?;
            responses.push(answer.problem(404)?.json);
        }
    }
    Ok(responses)
}

fn subscription() -> Value {
    json!({"name": "n", "url": "https://example.com/h", "events": ["workflow.failed"]})
}
