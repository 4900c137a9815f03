//! Custom headers.

use std::sync::Arc;

use hookline_testkit::deployment::Deployment;
use serde_json::{Map, Value, json};

use super::field::Field;

pub(super) async fn headers_are_at_most_20_and_8_kib(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let field = Field::of(&tenant.client, "headers").await?;
    let so_many = |count: usize| -> Map<String, Value> {
        (0..count)
            .map(|number| (format!("X-{number:02}"), json!("v")))
            .collect()
    };
    // Two headers with this many bytes in their names and values together.
    let so_large =
        |bytes: usize| json!({"X-A": "a".repeat(4_000), "X-B": "b".repeat(bytes - 4_006)});

    for count in [0, 1, 19, 20] {
        field.takes(so_many(count).into()).await?;
    }
    field.refuses(so_many(21).into(), "headers").await?;
    for bytes in [8 * 1024 - 1, 8 * 1024] {
        field.takes(so_large(bytes)).await?;
    }
    field.refuses(so_large(8 * 1024 + 1), "headers").await?;
    field
        .takes(json!({"!#$%&'*+-.^_`|~09azAZ": "", "a": "b\tc d~!"}))
        .await?;
    for no_object in [
        json!([]),
        json!("X-A: 1"),
        json!([["X-A", "1"]]),
        Value::Null,
    ] {
        field.refuses(no_object, "headers").await?;
    }
    Ok(())
}

pub(super) async fn reserved_headers_are_refused(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let field = Field::of(&tenant.client, "headers").await?;
    for name in [
        "Host",
        "content-type",
        "Content-Length",
        "content-x",
        "transfer-encoding",
        "Connection",
        "TE",
        "trailer",
        "upgrade",
        "expect",
        "keep-alive",
        "accept-encoding",
        "proxy-authorization",
        "Proxy-X",
        "cookie",
        "User-Agent",
        "traceparent",
        "tracestate",
        "X-Webhook-Signature",
        "x-webhook-x",
        "webhook-id",
        "Webhook-X", // reserved
        "a b",
        "a:",
        "é",
        "a\r\nb",
        "(a)",
        "\u{0}", // no name at all
    ] {
        field
            .refuses(json!({name: "v"}), &format!("headers.{name}"))
            .await?;
    }
    for value in [
        json!("a\r\nX-B: 1"),
        json!("\u{0}"),
        json!("é"),
        json!(" a"),
        json!("a "),
        json!(1),
        Value::Null,
    ] {
        field.refuses(json!({"X-A": value}), "headers.X-A").await?;
    }
    field.refuses(json!({"": "v"}), "headers").await?;
    field
        .refuses(json!({"X-A": "1", "x-a": "2"}), "headers.x-a")
        .await?;
    for near in [
        "Hosted",
        "x-webhooks",
        "contents",
        "tea",
        "Authorization",
        "webhooks-id",
    ] {
        field.takes(json!({near: "v"})).await?;
    }
    Ok(())
}
