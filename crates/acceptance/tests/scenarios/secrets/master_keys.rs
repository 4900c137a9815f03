use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Deployment, MASTER_KEY, Mode, Service};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::waiting::until;
use serde_json::json;

const KEYS: &str = "HOOKLINE__SECRETS__KEYS";
const NEW: &str = "k2:YW5kIGFub3RoZXIgb25lIGZvciB0aGUgdGVzdCBoaSE=";

async fn restart(deployment: &Deployment, keys: &str) -> anyhow::Result<()> {
    for service in [Service::Api, Service::Dispatcher] {
        if deployment.services().contains(&service) {
            deployment.stop(service).await?;
            deployment.start_service(service, &[(KEYS, keys)]).await?;
        }
    }
    deployment.wait_ready().await
}

pub(super) async fn signatures_hold_while_the_master_key_changes(mode: Mode) -> anyhow::Result<()> {
    const SUBSCRIPTIONS: usize = 30;
    let (both, turned) = (format!("{MASTER_KEY},{NEW}"), format!("{NEW},{MASTER_KEY}"));
    let deployment = Deployment::start_with(mode, &[(KEYS, &both)]).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    for index in 0..SUBSCRIPTIONS {
        let body = json!({
            "name": "n", "url": receiver.url(&format!("/{index}")), "events": ["workflow.started"],
            "secret": format!("secret {index}"), "headers": {"X-Token": format!("token {index}")},
        });
        tenant.client.subscribe(&body).await?;
    }
    restart(&deployment, &turned).await?;

    // Events come all the while, and one subscription is made meanwhile.
    let done = AtomicBool::new(false);
    let publishing = async {
        let mut events = 0;
        while !done.load(Ordering::Relaxed) || events < 5 {
            tenant.publish_one("workflow.started").await?;
            events += 1;
            receiver.wait_for(events * SUBSCRIPTIONS).await?;
        }
        anyhow::Ok(events)
    };
    let rekeying = async {
        receiver.wait_for(1).await?;
        let variables = [(KEYS, turned.as_str())];
        let output = deployment
            .hookline_with(&["secrets", "rekey"], &variables)
            .await;
        done.store(true, Ordering::Relaxed);
        output
    };
    let (events, output) = tokio::join!(publishing, rekeying);
    let (events, output) = (events?, output?);
    ensure!(
        output.contains(&format!(
            "{SUBSCRIPTIONS} subscriptions encrypted again; 0 left"
        )),
        "{output}"
    );
    // The old one is not needed any more.
    restart(&deployment, NEW).await?;
    tenant.publish_one("workflow.started").await?;
    let all = receiver.wait_for((events + 1) * SUBSCRIPTIONS).await?;
    for request in all {
        let index = request.path.trim_start_matches('/');
        request.verify(&format!("secret {index}"))?;
        ensure!(request.header("x-token")? == format!("token {index}"));
    }
    let again = deployment
        .hookline_with(&["secrets", "rekey"], &[(KEYS, NEW)])
        .await?;
    ensure!(again.contains("0 subscriptions encrypted again"), "{again}");
    deployment.end().await
}

pub(super) async fn no_service_starts_with_a_wrong_master_key(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.started"]).await?;
    for service in [Service::Api, Service::Dispatcher] {
        if !deployment.services().contains(&service) {
            continue;
        }
        deployment.stop(service).await?;
        let same_id = NEW.replacen("k2", "k1", 1);
        for (keys, why) in [
            (
                NEW,
                "values under the master key k1, which is not among the given ones",
            ),
            (
                &same_id,
                "the key k1 is not the one that the database's values are sealed under",
            ),
        ] {
            deployment.start_service(service, &[(KEYS, keys)]).await?;
            let output = until("the end of a start", async || {
                let output = deployment.output().await;
                Ok(output.contains(why).then_some(output))
            })
            .await?;
            deployment.wait_for_end(service).await?;
            ensure!(
                output.contains("setting secrets.keys does not fit: "),
                "{output}"
            );
        }
        deployment.start_service(service, &[]).await?;
    }
    deployment.wait_ready().await?;
    tenant.publish_one("workflow.started").await?;
    receiver.wait_for(1).await?[0].verify("hush")?;
    deployment.end().await
}

pub(super) async fn a_secret_that_cannot_be_decrypted_affects_only_its_subscription(
    mode: Mode,
) -> anyhow::Result<()> {
    let deployment = Deployment::start(mode).await?;
    let tenant = deployment.tenant().await?;
    let receiver = Receiver::healthy()?;
    let good = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let bad = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let copy = format!(
        "UPDATE subscriptions SET secret = (SELECT secret FROM subscriptions WHERE id = {good}) \
         WHERE id = {bad}"
    );
    deployment.dependencies()?.sql(&copy).await?;
    tenant.publish_one("workflow.started").await?;
    tenant.client.wait_for_log(good, 1).await?;
    let path = format!("/webhooks/{bad}/deliveries");
    let ended = until("the end of the other one", async || {
        let page = tenant.client.get(&path).await?.expect(200)?.json;
        let delivery = page["deliveries"].get(0).context("no delivery")?.clone();
        Ok((delivery["status"] != "pending").then_some(delivery))
    })
    .await?;
    ensure!(ended["status"] == "exhausted", "{ended}");
    let received = receiver.received();
    ensure!(received.len() == 1, "{} requests", received.len());
    received[0].verify("hush")?;
    // With a secret of its own it works again.
    let path = format!("/webhooks/{bad}");
    let secret = json!({"secret": "anew"});
    tenant.client.patch(&path, &secret).await?.expect(200)?;
    tenant.publish_one("workflow.started").await?;
    let all = receiver.wait_for(3).await?;
    let anew = all.iter().filter(|one| one.verify("anew").is_ok()).count();
    ensure!(anew == 1, "{anew} requests with the new secret");
    deployment.end().await
}
