//! Rate limits of the API: requests of a key, and tries with a wrong key.

use anyhow::ensure;
use hookline_testkit::client::ApiResponse;
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::waiting::until;

pub(super) async fn request_rates_and_failed_logins_of_a_key_are_limited(
    mode: Mode,
) -> anyhow::Result<()> {
    const BURST: usize = 40;
    let deployment = Deployment::start_with(
        mode,
        &[
            ("HOOKLINE__API__REQUESTS_PER_SECOND_PER_KEY", "1"),
            ("HOOKLINE__API__BURST_PER_KEY", "40"),
            ("HOOKLINE__API__FAILED_TRIES_PER_MINUTE", "5"),
        ],
    )
    .await?;
    let (tenant, other) = (deployment.tenant().await?, deployment.tenant().await?);
    tenant.client.get("/webhooks").await?.expect(200)?;

    // Five wrong keys in a row, and a further one is told to wait.
    let guesser = tenant.client.with_key(Some("hk_guess"));
    for _ in 0..5 {
        guesser.get("/webhooks").await?.problem(401)?;
    }
    let refused = guesser.get("/webhooks").await?.problem(429)?;
    ensure!((1..=12).contains(&wait(&refused)?), "{refused:?}");
    tenant
        .client
        .with_key(None)
        .get("/webhooks")
        .await?
        .problem(429)?;
    tenant.client.get("/webhooks").await?.expect(200)?;
    // A good key never is, also one that the process has not seen yet.
    other.client.get("/webhooks").await?.expect(200)?;

    // A burst of one key, of which another key feels nothing.
    let mut refused = None;
    for _ in 0..BURST + 20 {
        let answer = tenant.client.get("/webhooks").await?;
        if answer.status.as_u16() == 429 {
            refused = Some(answer.problem(429)?);
            break;
        }
    }
    let refused = refused.ok_or_else(|| anyhow::anyhow!("nobody was told to wait"))?;
    ensure!(wait(&refused)? == 1, "{refused:?}");
    other.client.get("/webhooks").await?.expect(200)?;
    until("the end of the wait", async || {
        let answer = tenant.client.get("/webhooks").await?;
        Ok((answer.status.as_u16() == 200).then_some(()))
    })
    .await?;
    deployment.end().await
}

fn wait(answer: &ApiResponse) -> anyhow::Result<u64> {
    Ok(answer.header("retry-after").parse()?)
}
