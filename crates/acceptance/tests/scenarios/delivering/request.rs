//! The content of a request, to the byte.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_core::trace::TraceParent;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{ReceivedRequest, Receiver};
use ring::hmac;
use serde_json::json;

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        every_header_of_the_contract_is_there,
        both_signatures_hold_for_plain_and_for_encoded_secrets,
        the_trace_of_the_publisher_continues_to_the_receiver,
        event_data_is_delivered_byte_for_byte,
    ]
}

const WEBHOOK_HEADERS: [&str; 4] = [
    "webhook-id",
    "webhook-timestamp",
    "x-webhook-attempt",
    "x-webhook-event",
];

async fn every_header_of_the_contract_is_there(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let subscription = tenant
        .client
        .subscribe(&json!({
            "name": "without a secret", "url": receiver.url("/hook?kind=a%20b"),
            "events": ["workflow.step.failed"],
            "headers": {"Authorization": "Bearer a b", "X-Team": "", "x-other": "tab\tinside"},
        }))
        .await?;
    let event = tenant.publish_one("workflow.step.failed").await?;
    let request = &receiver.wait_for(1).await?[0];
    let organization = &tenant.organization;
    let body = format!(
        r#"{{"event_id":"{event}","event_type":"workflow.step.failed","workflow_id":"wf_1","organization_id":"{organization}","timestamp":"2025-12-21T10:30:00Z","data":{{"amount":12.5,"step":"charge"}}}}"#
    );
    ensure!(request.body == body, "{:?}", request.body);
    ensure!(request.path == "/hook?kind=a%20b", "{}", request.path);
    let log = tenant.client.wait_for_log(subscription, 1).await?;
    let delivery = log[0]["delivery_id"].as_str().context("a delivery id")?;
    for (name, value) in [
        ("content-type", "application/json"),
        (
            "user-agent",
            concat!("Hookline/", env!("CARGO_PKG_VERSION")),
        ),
        ("content-length", &body.len().to_string()),
        ("webhook-id", delivery),
        ("x-webhook-event", "workflow.step.failed"),
        ("x-webhook-attempt", "1"),
        ("authorization", "Bearer a b"),
        ("x-team", ""),
        ("x-other", "tab\tinside"),
    ] {
        let found = request.header(name)?;
        ensure!(found == value, "{name} is {found:?} and not {value:?}");
    }
    let stamped: u64 = request.header("webhook-timestamp")?.parse()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(now.abs_diff(stamped) < 10, "{stamped} is not {now}");
    let trace = request.header("traceparent")?;
    ensure!(TraceParent::parse(trace).is_some(), "traceparent {trace:?}");
    let mut ours: Vec<_> = request
        .headers
        .keys()
        .filter(|name| name.starts_with("webhook-") || name.starts_with("x-webhook-"))
        .collect();
    ours.sort_unstable();
    ensure!(
        ours == WEBHOOK_HEADERS,
        "without a secret nothing is signed: {ours:?}"
    );
    Ok(())
}

async fn both_signatures_hold_for_plain_and_for_encoded_secrets(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const SECRETS: [&str; 4] = [
        "hush",
        "schlüssel \u{1f511} mit Raum",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "WHSEC_not-base64",
    ];
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    for (index, secret) in SECRETS.iter().enumerate() {
        tenant
            .client
            .subscribe(&json!({
                "name": "signed", "url": receiver.url(&format!("/{index}")),
                "events": ["workflow.completed"], "secret": secret,
            }))
            .await?;
    }
    tenant.publish_one("workflow.completed").await?;
    let received = receiver.wait_for(SECRETS.len()).await?;
    for request in received {
        let index: usize = request.path[1..].parse()?;
        let secret = SECRETS[index];
        request.verify(secret).with_context(|| secret.to_owned())?;
        let found = request.header("x-webhook-signature")?;
        let expected = plain_signature(secret, &request);
        ensure!(found == expected, "{secret}: {found} instead of {expected}");
        let another = SECRETS[(index + 1) % 2];
        ensure!(
            request.verify(another).is_err(),
            "{secret} and {another} sign alike"
        );
    }
    Ok(())
}

/// `X-Webhook-Signature` as the contract writes it down, with another library than the receiver's.
fn plain_signature(secret: &str, request: &ReceivedRequest) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::sign(&key, &request.body)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn the_trace_of_the_publisher_continues_to_the_receiver(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let given = [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00",
    ];
    let bad = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let event = || tenant.event("workflow.completed").to_string();
    tenant.publish_bytes(&event(), Some(given[0])).await?;
    tenant.post_bytes(&event(), Some(given[1])).await?;
    tenant.publish_bytes(&event(), Some(bad)).await?;
    tenant.post_bytes(&event(), None).await?;
    let received = receiver.wait_for(4).await?;
    let mut traces = Vec::new();
    for request in &received {
        let trace = request.header("traceparent")?;
        traces.push(TraceParent::parse(trace).with_context(|| trace.to_owned())?);
    }
    for parent in given {
        let parent = TraceParent::parse(parent).context("a good parent")?;
        let is_continued = traces.iter().any(|trace| {
            trace.trace_id == parent.trace_id
                && trace.flags == parent.flags
                && trace.span_id != parent.span_id
        });
        ensure!(is_continued, "{parent} does not go on in {traces:?}");
    }
    traces.sort_by_key(|trace| trace.trace_id);
    traces.dedup_by_key(|trace| trace.trace_id);
    ensure!(traces.len() == 4, "four events, four traces: {traces:?}");
    Ok(())
}

async fn event_data_is_delivered_byte_for_byte(deployment: Arc<Deployment>) -> anyhow::Result<()> {
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let data = format!(
        r#"{{ "z" : 1e400,	"a":-0.0, "big":123456789012345678901234567890.000000000000000000010,"E":1E+2,
  "text":"\u00e9\/\n\ud83d\ude00 é \u0000 \ud800 {}", "twice":1,"twice":2,"":null,"deep":{deep} }}"#,
        '\u{2028}'
    );
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let subscription = tenant.subscribe(&receiver, &["workflow.completed"]).await?;
    let organization = &tenant.organization;
    let written = |id: &str| {
        format!(
            "\r\n{{\"data\" : {data} ,\t\"timestamp\":\"2025-12-21T11:30:00.1234567+01:00\",\
             \"organization_id\":\"{organization}\",\"workflow_id\":\"wf \\u00e9\\\"\",\
             \"event_type\":\"workflow.completed\", \"event_id\":\"{id}\"}}\n"
        )
    };
    let expected = |id: &str| {
        format!(
            "{{\"event_id\":\"{id}\",\"event_type\":\"workflow.completed\",\"workflow_id\":\"wf é\\\"\",\
             \"organization_id\":\"{organization}\",\"timestamp\":\"2025-12-21T10:30:00.123456Z\",\
             \"data\":{data}}}"
        )
    };
    tenant.publish_bytes(&written("first"), None).await?;
    receiver.wait_for(1).await?;
    tenant.post_bytes(&written("second"), None).await?;
    let received = receiver.wait_for(2).await?;
    let log = tenant.client.wait_for_log(subscription, 2).await?;
    for (index, id) in ["first", "second"].into_iter().enumerate() {
        let sent = String::from_utf8_lossy(&received[index].body);
        ensure!(sent == expected(id), "{sent}");
        received[index].verify("hush")?;
        ensure!(log[index]["request_body"] == expected(id), "{}", log[index]);
    }
    Ok(())
}
