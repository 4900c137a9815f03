//! Publishing over HTTP: all of a request's events or none.

mod limits;

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::SharedScenario;
use hookline_testkit::client::ApiResponse;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::receiver::{ReceivedRequest, Receiver};
use hookline_testkit::tenant::Tenant;
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        one_event_or_an_array_is_accepted_and_delivered,
        limits::a_request_has_1_to_1000_events,
        limits::an_event_has_at_most_256_kib,
        limits::the_fields_of_an_event_have_limits,
        a_request_with_a_bad_event_delivers_nothing,
        an_event_of_another_organization_is_403,
    ]
}

const LARGEST: usize = 256 * 1024;

async fn one_event_or_an_array_is_accepted_and_delivered(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let org = &tenant.organization;
    let (first, second) = (
        tenant.event("workflow.failed"),
        tenant.event("workflow.failed"),
    );
    let one = tenant
        .client
        .at(&deployment.api())
        .post("/events", &first)
        .await?
        .expect(202)?;
    ensure!(
        one.json == json!({"accepted": [first["event_id"]]}),
        "{}",
        one.json
    );

    // Fields in any order, an id left out, one event twice, one without a subscription.
    let without_id = format!(
        r#"{{ "data": {{ "n": 1.10, "n": "\u0041/\/" }}, "timestamp": "2025-12-21T12:30:00.5+02:00",
            "organization_id": "{org}", "workflow_id": "w", "event_type": "workflow.failed" }}"#
    );
    let unwanted = tenant.event("workflow.started");
    let many = published(
        &tenant,
        format!("[{second},{without_id},{second},{unwanted}]"),
    )
    .await?
    .expect(202)?;
    let accepted = many.json["accepted"].as_array().context("ids")?;
    let given = accepted[1].as_str().context("an id")?;
    ensure!(
        accepted.len() == 4 && given.starts_with("evt_"),
        "{accepted:?}"
    );
    ensure!(
        [&accepted[0], &accepted[2], &accepted[3]]
            == [
                &second["event_id"],
                &second["event_id"],
                &unwanted["event_id"]
            ]
    );

    let received = receiver.wait_for(3).await?;
    ensure!(ids(&received).len() == 3 && received.len() == 3);
    let expected = format!(
        r#"{{"event_id":"{given}","event_type":"workflow.failed","workflow_id":"w","organization_id":"{org}","timestamp":"2025-12-21T10:30:00.5Z","data":{{ "n": 1.10, "n": "\u0041/\/" }}}}"#
    );
    ensure!(
        received
            .iter()
            .any(|request| request.body == expected.as_bytes()),
        "{received:?}"
    );
    Ok(())
}

async fn a_request_with_a_bad_event_delivers_nothing(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    let mut bad = tenant.event("workflow.failed");
    bad["event_type"] = json!("x");
    bad["extra"] = json!(1);
    let good = tenant.event("workflow.failed");
    let large = String::from_utf8(sized(&tenant, LARGEST + 1)?)?;
    let request = format!("[{good},{bad},7,null,{good},{{}},{large}]");
    let refused = published(&tenant, request).await?.problem(422)?;
    let mut fields = refused.bad_fields();
    fields.sort();
    let expected = [
        "[1].event_type",
        "[1].extra",
        "[2]",
        "[3]",
        "[5].data",
        "[5].event_type",
        "[5].organization_id",
        "[5].timestamp",
        "[5].workflow_id",
        "[6]",
    ];
    ensure!(fields == expected, "{fields:?}");
    only_this_arrives(&tenant, &receiver).await
}

async fn an_event_of_another_organization_is_403(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let (receiver, others_receiver) = (Receiver::healthy()?, Receiver::healthy()?);
    tenant.subscribe(&receiver, &["workflow.failed"]).await?;
    other
        .subscribe(&others_receiver, &["workflow.failed"])
        .await?;
    let (ours, theirs) = (
        tenant.event("workflow.failed"),
        other.event("workflow.failed"),
    );
    for request in [json!(theirs), json!([ours, theirs])] {
        tenant
            .client
            .post("/events", &request)
            .await?
            .problem(403)?;
    }
    let mut nobodys = tenant.event("workflow.failed");
    nobodys["organization_id"] = json!("an organization that does not exist");
    tenant
        .client
        .post("/events", &nobodys)
        .await?
        .problem(403)?;

    // A member of both names the organization that the event is of.
    let key = deployment
        .key(&["--org", &tenant.organization, "--also", &other.organization])
        .await?;
    let both = tenant.client.with_key(Some(&key));
    both.post("/events", &theirs).await?.problem(403)?;
    both.in_organization(&other.organization)
        .post("/events", &theirs)
        .await?
        .expect(202)?;
    let received = others_receiver.wait_for(1).await?;
    ensure!(ids(&received).contains(theirs["event_id"].as_str().context("an id")?));
    only_this_arrives(&tenant, &receiver).await?;
    ensure!(others_receiver.received().len() == 1);
    Ok(())
}

/// One event more, and the receiver has that one alone: what was refused did not go before it.
async fn only_this_arrives(tenant: &Tenant<'_>, receiver: &Receiver) -> anyhow::Result<()> {
    let event = tenant.event("workflow.failed");
    tenant.client.post("/events", &event).await?.expect(202)?;
    let received = receiver.wait_for(1).await?;
    let only: HashSet<_> = event["event_id"]
        .as_str()
        .map(str::to_owned)
        .into_iter()
        .collect();
    ensure!(ids(&received) == only, "{received:?}");
    Ok(())
}

async fn published(tenant: &Tenant<'_>, body: impl Into<Vec<u8>>) -> anyhow::Result<ApiResponse> {
    let request = tenant
        .client
        .request(Method::POST, "/events")
        .header("content-type", "application/json");
    tenant.client.send(request.body(body.into())).await
}

/// An event of exactly so many bytes, written as receivers get it.
fn sized(tenant: &Tenant<'_>, bytes: usize) -> anyhow::Result<Vec<u8>> {
    let event = tenant.event("workflow.failed");
    let start = format!(
        r#"{{"event_id":{},"event_type":"workflow.failed","workflow_id":"w","organization_id":"{}","timestamp":"2025-12-21T10:30:00Z","data":{{"padding":""#,
        event["event_id"], tenant.organization,
    );
    let padding = bytes.checked_sub(start.len() + 3).context("too small")?;
    Ok(format!("{start}{}\"}}}}", "x".repeat(padding)).into_bytes())
}

fn ids(received: &[ReceivedRequest]) -> HashSet<String> {
    let bodies = received
        .iter()
        .filter_map(|request| serde_json::from_slice::<Value>(&request.body).ok());
    bodies
        .filter_map(|body| body["event_id"].as_str().map(str::to_owned))
        .collect()
}
