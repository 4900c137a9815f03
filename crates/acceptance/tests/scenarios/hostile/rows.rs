//! The texts of publishers and receivers go into a database that takes neither NUL nor half a character. Each text
//! shares a batch with the texts of others.

use std::sync::Arc;

use anyhow::ensure;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::raw_receiver::RawReceiver;
use hookline_testkit::receiver::Receiver;
use serde_json::Value;

use super::{outcome_of, subscribe_all};

pub(super) async fn a_row_that_the_database_rejects_fails_no_other(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const HEALTHY: usize = 20;
    const ODD: [(&[u8], &str); 5] = [
        (b"a\0b", "a\u{fffd}b"),
        (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        (b"\xff\xfe\0\0", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        (b"\xf0\x9f\x98", "\u{fffd}"),
        (br#"{"a":"\u0000\ud800"}"#, r#"{"a":"\u0000\ud800"}"#),
    ];
    let tenant = deployment.tenant().await?;
    let healthy = Receiver::healthy()?;
    let mut urls = vec![healthy.url("/hook"); HEALTHY];
    let mut odd = Vec::new();
    for (body, _) in ODD {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        odd.push(RawReceiver::answering([head.as_bytes(), body].concat()).await?);
    }
    urls.extend(odd.iter().map(RawReceiver::url));
    let subscriptions = subscribe_all(&tenant, &urls).await?;

    // Some events of the batch have text that a database would not take either.
    let escapes = [r"\u0000", r"\ud800", r"\udc00\ud800"];
    let mut events: Vec<String> = (0..5)
        .map(|_| tenant.event("workflow.completed").to_string())
        .collect();
    for (event, escape) in events.iter_mut().zip(escapes) {
        *event = event.replace("charge", escape);
    }
    for event in &events {
        tenant.publish_bytes(event, None).await?;
    }
    let ids: Vec<String> = events
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(&event.replace('\\', "")).ok())
        .filter_map(|event| event["event_id"].as_str().map(str::to_owned))
        .collect();
    ensure!(ids.len() == events.len());

    for (index, subscription) in subscriptions.iter().enumerate() {
        let log = tenant
            .client
            .wait_for_log(*subscription, events.len())
            .await?;
        ensure!(log.len() == events.len(), "{} attempts", log.len());
        for entry in &log {
            ensure!(outcome_of(entry) == ("success", None, Some(200)), "{entry}");
            ensure!(entry["attempt"] == 1, "{entry}");
            let event = ids.iter().position(|id| entry["event_id"] == id.as_str());
            let escape = event
                .and_then(|event| escapes.get(event))
                .unwrap_or(&"charge");
            let sent = entry["request_body"].as_str().unwrap_or_default();
            ensure!(sent.contains(&format!("\"step\":\"{escape}\"")), "{entry}");
            if let Some((_, printable)) = index.checked_sub(HEALTHY).map(|odd| ODD[odd]) {
                ensure!(entry["response_body"] == printable, "{entry}");
            }
        }
    }
    ensure!(healthy.received().len() == HEALTHY * events.len());
    Ok(())
}
