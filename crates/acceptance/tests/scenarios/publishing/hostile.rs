//! Events that a broken or hostile publisher would send: each is accepted or dead-lettered with a reason,
//! and the good one right behind it does not wait.

mod json;
mod protobuf;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::publisher;
use hookline_testkit::receiver::Receiver;
use hookline_testkit::rejected_events::RejectedEvents;
use hookline_testkit::tenant::Tenant;
use lapin::BasicProperties;

/// How soon a good event arrives behind a bad one.
const DELIVERY_LIMIT: Duration = Duration::from_secs(2);

/// An event of this type is hostile, and none of the good ones is.
const HOSTILE: &str = "workflow.failed";

/// The expected outcome of an event.
enum ExpectedOutcome {
    /// It is delivered, and this is the end of its body.
    Delivered(Vec<u8>),
    /// It is dead-lettered, and the reason has these words.
    Rejected(String),
    /// It is accepted, and no subscription wants it.
    Unwanted,
}

struct Case {
    description: String,
    properties: BasicProperties,
    body: Vec<u8>,
    outcome: ExpectedOutcome,
}

impl Case {
    fn of(
        description: &str,
        properties: BasicProperties,
        body: impl Into<Vec<u8>>,
        outcome: ExpectedOutcome,
    ) -> Self {
        Self {
            description: description.to_owned(),
            properties,
            body: body.into(),
            outcome,
        }
    }
}

pub(super) async fn each_hostile_event_ends_and_delays_no_other(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let (hostile, good) = (Receiver::healthy()?, Receiver::healthy()?);
    tenant.subscribe(&hostile, &[HOSTILE]).await?;
    tenant.subscribe(&good, &["workflow.started"]).await?;
    let mut cases = json::cases(&tenant)?;
    cases.extend(protobuf::cases(&tenant));

    // The first one makes the connections.
    tenant.publish_one("workflow.started").await?;
    good.wait_for(1).await?;
    for (number, case) in cases.iter().enumerate() {
        deployment
            .publish_amqp(HOSTILE, &case.body, case.properties.clone())
            .await?;
        let began = Instant::now();
        tenant.publish_one("workflow.started").await?;
        good.wait_for(number + 2).await?;
        ensure!(
            began.elapsed() < DELIVERY_LIMIT,
            "the good one behind {} took {:?}",
            case.description,
            began.elapsed()
        );
    }
    all_have_ended_as_they_should(&deployment, &hostile, &cases).await?;
    an_organization_that_came_later_has_its_event(&deployment).await?;
    deployment.end().await
}

async fn all_have_ended_as_they_should(
    deployment: &Deployment,
    receiver: &Receiver,
    cases: &[Case],
) -> anyhow::Result<()> {
    let expected = |outcome: fn(&ExpectedOutcome) -> bool| {
        cases.iter().filter(|case| outcome(&case.outcome)).count()
    };
    let to_deliver = expected(|outcome| matches!(outcome, ExpectedOutcome::Delivered(_)));
    let to_reject = expected(|outcome| matches!(outcome, ExpectedOutcome::Rejected(_)));
    // Whatever else was dead-lettered came before the last one.
    let last = "the last one";
    deployment
        .publish_amqp(HOSTILE, last.as_bytes(), publisher::json())
        .await?;
    let rejected_events = RejectedEvents::connect(&deployment.dependencies()?.amqp).await?;
    let mut rejected = Vec::new();
    loop {
        let next = rejected_events.take(1).await?.remove(0);
        if next.body == last.as_bytes() {
            break;
        }
        rejected.push(next);
    }
    let mut received = receiver.wait_for(to_deliver).await?;
    for case in cases {
        match &case.outcome {
            ExpectedOutcome::Delivered(end) => {
                let found = received.iter().position(|one| one.body.ends_with(end));
                let found =
                    found.with_context(|| format!("{} did not arrive", case.description))?;
                received.remove(found).verify("hush")?;
            }
            ExpectedOutcome::Rejected(reason) => {
                let found = rejected.iter().position(|one| one.body == case.body);
                let found =
                    found.with_context(|| format!("{} was not put aside", case.description))?;
                let found = rejected.remove(found).reason;
                ensure!(found.contains(reason), "{}: {found}", case.description);
            }
            ExpectedOutcome::Unwanted => {}
        }
    }
    ensure!(
        received.is_empty() && rejected.is_empty(),
        "{} of {to_deliver} and {} of {to_reject} are too many: {:?}",
        received.len(),
        rejected.len(),
        rejected.first()
    );
    Ok(())
}

/// Publishers are trusted to write for any organization, also for one that is made later.
async fn an_organization_that_came_later_has_its_event(
    deployment: &Deployment,
) -> anyhow::Result<()> {
    let organization = json::LATER_ORGANIZATION;
    deployment
        .hookline(&["org", "create", organization])
        .await?;
    let key = deployment.key(&["--org", organization]).await?;
    let tenant: Tenant<'_> = deployment.tenant().await?;
    let client = tenant.client.with_key(Some(&key));
    client.get("/events/evt_of_nobody").await?.expect(200)?;
    Ok(())
}
