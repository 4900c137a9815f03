//! Fan-out: the subscriptions that get an event.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::ensure;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};
use hookline_testkit::deployment::{Deployment, Mode, Service};
use hookline_testkit::receiver::{ReceivedRequest, Receiver, Reply};
use hookline_testkit::tenant::EVENT_TYPES;
use serde_json::{Value, json};

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        only_active_subscriptions_of_the_organization_that_want_the_type_get_an_event,
        the_next_event_sees_every_change_of_a_subscription,
        a_wildcard_receives_the_types_that_it_stands_for,
    ]
}

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        replicas_side_by_side_deliver_each_event_once,
        an_event_type_unknown_to_this_version_delays_no_event,
    ]
}

fn types_of(received: &[ReceivedRequest]) -> anyhow::Result<Vec<&str>> {
    let mut types = received
        .iter()
        .map(|request| request.header("x-webhook-event"))
        .collect::<anyhow::Result<Vec<_>>>()?;
    types.sort_unstable();
    Ok(types)
}

fn event_of(request: &ReceivedRequest) -> anyhow::Result<String> {
    let body: Value = serde_json::from_slice(&request.body)?;
    Ok(body["event_id"].as_str().unwrap_or_default().to_owned())
}

async fn only_active_subscriptions_of_the_organization_that_want_the_type_get_an_event(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (tenant, other_tenant) = (deployment.tenant().await?, deployment.tenant().await?);
    let (all, some, inactive, other_receiver) = (
        Receiver::healthy()?,
        Receiver::healthy()?,
        Receiver::healthy()?,
        Receiver::healthy()?,
    );
    tenant.subscribe(&all, &EVENT_TYPES).await?;
    tenant
        .subscribe(&some, &["workflow.step.failed", "workflow.completed"])
        .await?;
    let off = tenant
        .client
        .subscribe(&json!({
            "name": "off", "url": inactive.url("/"), "events": EVENT_TYPES, "is_active": false,
        }))
        .await?;
    other_tenant
        .subscribe(&other_receiver, &EVENT_TYPES)
        .await?;
    let mut events: Vec<Value> = EVENT_TYPES.iter().map(|name| tenant.event(name)).collect();
    tenant.publish(&events).await?;
    all.wait_for(EVENT_TYPES.len()).await?;
    // These events are taken in. One more event goes to every receiver: all that is owed came before it.
    let on = json!({"is_active": true});
    tenant
        .client
        .patch(&format!("/webhooks/{off}"), &on)
        .await?
        .expect(200)?;
    events.push(tenant.event("workflow.completed"));
    tenant.publish(&events[EVENT_TYPES.len()..]).await?;
    other_tenant.publish_one("workflow.completed").await?;

    let mut expected = EVENT_TYPES.to_vec();
    expected.push("workflow.completed");
    expected.sort_unstable();
    let received = all.wait_for(expected.len()).await?;
    ensure!(
        types_of(&received)? == expected,
        "{:?}",
        types_of(&received)
    );
    let ids: HashSet<_> = received.iter().map(event_of).collect::<Result<_, _>>()?;
    for event in &events {
        ensure!(ids.contains(event["event_id"].as_str().unwrap_or_default()));
    }
    let received = some.wait_for(3).await?;
    let expected = [
        "workflow.completed",
        "workflow.completed",
        "workflow.step.failed",
    ];
    ensure!(
        types_of(&received)? == expected,
        "{:?}",
        types_of(&received)
    );
    for (who, receiver) in [
        ("the inactive one", inactive),
        ("the stranger", other_receiver),
    ] {
        let received = receiver.wait_for(1).await?;
        ensure!(
            types_of(&received)? == ["workflow.completed"],
            "{who} got {:?}",
            types_of(&received)
        );
    }
    Ok(())
}

async fn a_wildcard_receives_the_types_that_it_stands_for(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let mut receivers = Vec::new();
    for events in [
        &["workflow.*"][..],
        &["workflow.step.*", "workflow.failed"],
        &["*"],
    ] {
        let receiver = Receiver::healthy()?;
        let id = tenant.subscribe(&receiver, events).await?;
        let shown = tenant.client.get(&format!("/webhooks/{id}")).await?;
        ensure!(shown.expect(200)?.json["events"] == json!(events));
        receivers.push((id, receiver));
    }
    let events: Vec<Value> = EVENT_TYPES.iter().map(|name| tenant.event(name)).collect();
    tenant.publish(&events).await?;
    // Delivered to all receivers: what came before is theirs too.
    for (expected, (id, receiver)) in [3, 4, 6].into_iter().zip(&receivers) {
        receiver.wait_for(expected).await?;
        tenant.client.wait_for_log(*id, expected).await?;
    }
    let of_steps = types_of(&receivers[1].1.received())?.join(" ");
    ensure!(
        of_steps
            == "workflow.failed workflow.step.completed workflow.step.failed workflow.step.started",
        "{of_steps}"
    );
    let (first, _) = &receivers[0];
    let step = events[3]["event_id"].as_str().unwrap_or_default();
    let story = tenant
        .client
        .get(&format!("/events/{step}"))
        .await?
        .expect(200)?
        .json;
    let outcomes = story["subscriptions"].as_array();
    let outcome = outcomes.and_then(|all| all.iter().find(|one| one["subscription_id"] == *first));
    ensure!(
        outcome.is_some_and(|outcome| outcome["outcome"] == "filtered"),
        "{story}"
    );
    let counts: Vec<usize> = receivers
        .iter()
        .map(|(_, one)| one.received().len())
        .collect();
    ensure!(counts == [3, 4, 6], "{counts:?}");
    Ok(())
}

/// Twenty changes, each followed by one event; a second subscription tells when it was taken in.
async fn the_next_event_sees_every_change_of_a_subscription(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let (receiver, control) = (Receiver::healthy()?, Receiver::healthy()?);
    tenant.subscribe(&control, &EVENT_TYPES).await?;
    let mut expected = Vec::new();
    let mut subscription = 0;
    for change in 0..20 {
        let path = format!("/webhooks/{subscription}");
        let patch = async |body: Value| tenant.client.patch(&path, &body).await?.expect(200);
        let wanted = match change % 5 {
            0 => {
                subscription = tenant.subscribe(&receiver, &["workflow.failed"]).await?;
                true
            }
            1 => {
                patch(json!({"events": ["workflow.started"]})).await?;
                false
            }
            2 => {
                patch(json!({"events": ["workflow.completed", "workflow.failed"]})).await?;
                true
            }
            3 => {
                patch(json!({"is_active": false})).await?;
                false
            }
            _ if change < 10 => {
                patch(json!({"is_active": true, "name": "on again"})).await?;
                true
            }
            _ => {
                tenant.client.delete(&path).await?.expect(204)?;
                false
            }
        };
        let event = tenant.publish_one("workflow.failed").await?;
        control.wait_for(change + 1).await?;
        if wanted {
            expected.push(event);
            receiver.wait_for(expected.len()).await?;
        }
        // The subscriptions of earlier rounds stay on from their fifth change; they end here.
        if change < 10 && change % 5 == 4 {
            tenant.client.delete(&path).await?.expect(204)?;
        }
    }
    let got = receiver
        .received()
        .iter()
        .map(event_of)
        .collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(got == expected, "{got:?} instead of {expected:?}");
    Ok(())
}

async fn replicas_side_by_side_deliver_each_event_once(mode: Mode) -> anyhow::Result<()> {
    const EVENTS: usize = 300;
    let deployment = Deployment::start(mode).await?;
    deployment.start_service(Service::Ingest, &[]).await?;
    deployment.start_service(Service::Dispatcher, &[]).await?;
    deployment.wait_ready().await?;
    let tenant = deployment.tenant().await?;
    // Some go through the delay queues, too.
    let receiver = Receiver::with(|request, before| match request.body.len() % 10 {
        0 if before == 0 => Reply::status(500),
        _ => Reply::status(200),
    })?;
    let subscription = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let mut events = Vec::with_capacity(EVENTS);
    for number in 0..EVENTS {
        let mut event = tenant.event("workflow.started");
        event["data"] = json!({"padding": "x".repeat(number % 10)});
        events.push(event);
    }
    tenant.publish(&events).await?;
    let expected = EVENTS + EVENTS / 10;
    receiver.wait_for(expected).await?;
    let path = format!("/webhooks/{subscription}/logs?limit=1");
    hookline_testkit::waiting::until("the whole log", async || {
        let page = tenant.client.get(&path).await?.expect(200)?;
        Ok((page.json["total"] == expected).then_some(()))
    })
    .await?;
    let received = receiver.received();
    ensure!(received.len() == expected, "{} requests", received.len());
    let attempts: HashSet<_> = received
        .iter()
        .map(|request| {
            Ok((
                request.header("webhook-id")?,
                request.header("x-webhook-attempt")?,
            ))
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(attempts.len() == expected, "an attempt was made twice");
    let ids: HashSet<_> = received.iter().map(event_of).collect::<Result<_, _>>()?;
    ensure!(ids.len() == EVENTS, "{} events", ids.len());
    deployment.end().await
}

/// A newer version, or an operator, has stored it.
async fn an_event_type_unknown_to_this_version_delays_no_event(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let (tenant, other_tenant) = (deployment.tenant().await?, deployment.tenant().await?);
    let (odd, plain, other_receiver) = (
        Receiver::healthy()?,
        Receiver::healthy()?,
        Receiver::healthy()?,
    );
    let subscription = tenant.subscribe(&odd, &["workflow.started"]).await?;
    tenant.subscribe(&plain, &["workflow.started"]).await?;
    other_tenant
        .subscribe(&other_receiver, &["workflow.started"])
        .await?;
    deployment.dependencies()?
        .sql(&format!(
            "UPDATE subscriptions SET events = 'workflow.paused workflow.failed' WHERE id = {subscription}"
        ))
        .await?;
    // Ingest learns of a change by its version; a new process reads every row.
    deployment.restart(Service::Ingest, &[]).await?;

    for publisher in [&tenant, &other_tenant] {
        publisher.publish_one("workflow.started").await?;
        publisher.publish_one("workflow.failed").await?;
    }
    for (receiver, wanted) in [
        (&odd, "workflow.failed"),
        (&plain, "workflow.started"),
        (&other_receiver, "workflow.started"),
    ] {
        ensure!(types_of(&receiver.wait_for(1).await?)? == [wanted]);
    }
    let dead = deployment.dead_letters().await?;
    ensure!(dead.is_empty(), "{dead:?}");
    deployment.end().await
}
