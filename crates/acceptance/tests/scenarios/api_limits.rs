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

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        a_name_has_1_to_255_characters,
        a_url_is_absolute_and_has_at_most_2048_characters,
        events_are_one_or_more_and_none_twice,
        a_secret_has_1_to_255_characters,
        headers::headers_are_at_most_20_and_8_kib,
        headers::reserved_headers_are_refused,
        every_bad_field_is_named_at_once,
    ]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![production::production_rules_and_a_limit_of_three_subscriptions]
}

async fn a_name_has_1_to_255_characters(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let field = Field::of(&tenant.client, "name").await?;
    let spaces = " ".repeat(255);
    for good in [
        "n",
        " ",
        &spaces,
        &"é".repeat(255),
        &"😀".repeat(255),
        "\u{a0}\"\\</b>",
    ] {
        field.takes(json!(good)).await?;
    }
    for bad in ["", &"n".repeat(256), &"é".repeat(256)] {
        field.refuses(json!(bad), "name").await?;
    }
    for control in ["a\nb", "a\u{0}", "\t", "\u{7f}", "\u{85}", "\u{9f}"] {
        field.refuses(json!(control), "name").await?;
    }
    for no_string in [json!(1), json!(["n"]), json!({}), json!(true), Value::Null] {
        field.refuses(no_string, "name").await?;
    }
    Ok(())
}

async fn a_url_is_absolute_and_has_at_most_2048_characters(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let field = Field::of(&tenant.client, "url").await?;
    let of = |length: usize, letter: &str| {
        let start = "https://example.com/";
        format!("{start}{}", letter.repeat(length - start.len()))
    };
    for good in [
        &of(2047, "a"),
        &of(2048, "a"),
        &of(2048, "é"),
        "https://example.com",
        "HTTPS://Example.com:8443/a%20b?c=d&e#".trim_end_matches('#'),
        "https://bücher.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:8443/",
    ] {
        field.takes(json!(good)).await?;
    }
    for bad in [
        &of(2049, "a"),
        &of(2049, "é"),
        "",
        "/hooks",
        "example.com",
        "//example.com",
        "https:example.com",
        "https://",
        " https://example.com",
        "https://exam\nple.com",
        "https://example.com:99999",
        "ftp://example.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://user@example.com",
        "https://user:pass@example.com",
        "https://:pass@example.com",
        "https://example.com/#",
        "https://example.com/#fragment",
    ] {
        field.refuses(json!(bad), "url").await?;
    }
    for no_string in [json!(1), json!(["https://example.com"]), Value::Null] {
        field.refuses(no_string, "url").await?;
    }
    Ok(())
}

async fn events_are_one_or_more_and_none_twice(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let field = Field::of(&tenant.client, "events").await?;
    let all = [
        "workflow.step.failed",
        "workflow.started",
        "workflow.completed",
        "workflow.step.completed",
        "workflow.failed",
        "workflow.step.started",
    ];
    for name in all {
        field.takes(json!([name])).await?;
    }
    field.takes(json!(all)).await?;

    field.refuses(json!([]), "events").await?;
    let seven: Vec<_> = all.iter().chain(&all[..1]).collect();
    field.refuses(json!(seven), "events[6]").await?;
    field
        .refuses(json!([all[0], all[1], all[0]]), "events[2]")
        .await?;
    for unknown in [
        "",
        "workflow",
        "Workflow.failed",
        "workflow.failed ",
        "*",
        "workflow.*",
    ] {
        field.refuses(json!([all[0], unknown]), "events[1]").await?;
    }
    for no_name in [json!(1), Value::Null, json!([])] {
        field.refuses(json!([no_name]), "events[0]").await?;
    }
    for no_array in [json!(all[0]), json!({}), json!(1), Value::Null] {
        field.refuses(no_array, "events").await?;
    }
    Ok(())
}

async fn a_secret_has_1_to_255_characters(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let field = Field::of(&tenant.client, "secret").await?;
    for good in [
        "s",
        " ",
        &"s".repeat(255),
        &"😀".repeat(255),
        "whsec",
        "Whsec_?",
        "whsec_AA==",
    ] {
        field.takes(json!(good)).await?;
    }
    for bad in [
        "",
        &"s".repeat(256),
        &"é".repeat(256),
        "whsec_",
        "whsec_?",
        "whsec_abc",
    ] {
        field.refuses(json!(bad), "secret").await?;
    }
    for no_string in [json!(1), json!({}), json!(false)] {
        field.refuses(no_string, "secret").await?;
    }
    // Only a patch has a secret to remove.
    let made = field
        .client
        .post("/webhooks", &with("secret", Value::Null))
        .await?;
    ensure!(made.problem(422)?.bad_fields() == ["secret"]);
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
    for bad in [json!("true"), json!(1), json!([])] {
        let refused = client
            .post("/webhooks", &with("is_active", bad))
            .await?
            .problem(422)?;
        ensure!(refused.bad_fields() == ["is_active"]);
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
