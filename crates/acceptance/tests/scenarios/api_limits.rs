//! Every field of a subscription at, below and above its limits, when it is made and when it is
//! changed.

mod field;
mod headers;
mod production;

use std::sync::Arc;

use anyhow::ensure;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};
use hookline_testkit::deployment::Deployment;
use serde_json::{Value, json};

use self::field::{Field, good, with};
use crate::subscription_fields::fields;

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        every_field_has_bounds,
        headers::headers_are_at_most_20_and_8_kib,
        headers::reserved_headers_are_refused,
        every_bad_field_is_named_at_once,
    ]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![production::production_rules_and_a_limit_of_three_subscriptions]
}

async fn every_field_has_bounds(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    for case in fields() {
        let tenant = deployment.tenant().await?;
        let field = Field::of(&tenant.client, case.name).await?;
        if case.is_nullable() {
            // Only a patch has a value to remove.
            let null = with(case.name, Value::Null);
            let created = field.client.post("/webhooks", &null).await?;
            ensure!(created.problem(422)?.bad_fields() == [case.name]);
        } else {
            field.refuses(Value::Null, case.name).await?;
        }
        for value in case.accepted {
            field.takes(value).await?;
        }
        for (value, path) in case.refused {
            field.refuses(value, path).await?;
        }
    }
    Ok(())
}

async fn every_bad_field_is_named_at_once(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let client = &tenant.client;
    let sorted = |mut fields: Vec<String>| {
        fields.sort();
        fields
    };
    let missing = client.post("/webhooks", &json!({})).await?.problem(422)?;
    ensure!(
        sorted(missing.bad_fields()) == ["events", "name", "url"],
        "{}",
        missing.json
    );

    let path = format!("/webhooks/{}", client.subscribe(&good()).await?);
    let all_bad = json!({
        "name": "", "url": "x", "events": ["x", "workflow.failed", "workflow.failed", 3], "secret": 1,
        "headers": {"Host": "h", "X-A": 1}, "is_active": "yes",
        "id": 1, "created_at": "2025-12-21T10:30:00Z", "updated_at": null, "has_secret": true,
        "header_names": [], "disabled_reason": null, "organization_id": "o", "Name": "n",
    });
    let expected = [
        "Name",
        "created_at",
        "disabled_reason",
        "events[0]",
        "events[2]",
        "events[3]",
        "has_secret",
        "header_names",
        "headers.Host",
        "headers.X-A",
        "id",
        "is_active",
        "name",
        "organization_id",
        "secret",
        "updated_at",
        "url",
    ];
    for answer in [
        client.post("/webhooks", &all_bad).await?,
        client.patch(&path, &all_bad).await?,
    ] {
        let refused = answer.problem(422)?;
        ensure!(
            sorted(refused.bad_fields()) == expected,
            "{:#}",
            refused.json
        );
    }

    let twice = r#"{"name":"a","name":"b","events":["workflow.failed"],"url":"https://example.com",
                    "headers":{"A":"1","A":"2"}}"#;
    let request = client.request(reqwest::Method::POST, "/webhooks");
    let request = request
        .header("content-type", "application/json")
        .body(twice);
    let refused = client.send(request).await?.problem(422)?;
    ensure!(
        sorted(refused.bad_fields()) == ["headers.A", "name"],
        "{}",
        refused.json
    );

    let listed = client.get("/webhooks").await?.expect(200)?;
    ensure!(listed.json["total"] == 1, "a refused subscription was made");
    Ok(())
}
