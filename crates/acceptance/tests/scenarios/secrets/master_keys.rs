use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Home, Kind, MASTER_KEY, Part};
use hookline_testkit::receiver::Receiver;
use hookline_testkit::waiting::until;
use serde_json::json;

const KEYS: &str = "HOOKLINE__SECRETS__KEYS";
const NEW: &str = "k2:YW5kIGFub3RoZXIgb25lIGZvciB0aGUgdGVzdCBoaSE=";

async fn restart(home: &Home, keys: &str) -> anyhow::Result<()> {
    for part in [Part::Api, Part::Dispatcher] {
        if home.parts().contains(&part) {
            home.stop(part).await?;
            home.start_part(part, &[(KEYS, keys)]).await?;
        }
    }
    home.wait_ready().await
}

pub(super) async fn everything_is_signed_right_while_the_master_key_changes(
    kind: Kind,
) -> anyhow::Result<()> {
    const SUBSCRIPTIONS: usize = 30;
    let (both, turned) = (format!("{MASTER_KEY},{NEW}"), format!("{NEW},{MASTER_KEY}"));
    let home = Home::start_with(kind, &[(KEYS, &both)]).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::healthy()?;
    for index in 0..SUBSCRIPTIONS {
        let body = json!({
            "name": "n", "url": receiver.url(&format!("/{index}")), "events": ["workflow.started"],
            "secret": format!("secret {index}"), "headers": {"X-Token": format!("token {index}")},
        });
        tenant.client.subscribe(&body).await?;
    }
    restart(&home, &turned).await?;

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
        let said = home.hookline_with(&["secrets", "rekey"], &variables).await;
        done.store(true, Ordering::Relaxed);
        said
    };
    let (events, said) = tokio::join!(publishing, rekeying);
    let (events, said) = (events?, said?);
    ensure!(
        said.contains(&format!(
            "{SUBSCRIPTIONS} subscriptions encrypted again; 0 left"
        )),
        "{said}"
    );
    // The old one is not needed any more.
    restart(&home, NEW).await?;
    tenant.publish_one("workflow.started").await?;
    let all = receiver.wait_for((events + 1) * SUBSCRIPTIONS).await?;
    for request in all {
        let index = request.path.trim_start_matches('/');
        request.verify(&format!("secret {index}"))?;
        ensure!(request.header("x-token")? == format!("token {index}"));
    }
    let again = home
        .hookline_with(&["secrets", "rekey"], &[(KEYS, NEW)])
        .await?;
    ensure!(again.contains("0 subscriptions encrypted again"), "{again}");
    home.end().await
}

pub(super) async fn nobody_starts_with_a_wrong_master_key(kind: Kind) -> anyhow::Result<()> {
    let home = Home::start(kind).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::healthy()?;
    tenant.subscribe(&receiver, &["workflow.started"]).await?;
    for part in [Part::Api, Part::Dispatcher] {
        if !home.parts().contains(&part) {
            continue;
        }
        home.stop(part).await?;
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
            home.start_part(part, &[(KEYS, keys)]).await?;
            let said = until("the end of a start", async || {
                let said = home.said().await;
                Ok(said.contains(why).then_some(said))
            })
            .await?;
            home.wait_for_end(part).await?;
            ensure!(
                said.contains("setting secrets.keys does not fit: "),
                "{said}"
            );
        }
        home.start_part(part, &[]).await?;
    }
    home.wait_ready().await?;
    tenant.publish_one("workflow.started").await?;
    receiver.wait_for(1).await?[0].verify("hush")?;
    home.end().await
}

pub(super) async fn a_secret_that_does_not_open_costs_its_own_subscription(
    kind: Kind,
) -> anyhow::Result<()> {
    let home = Home::start(kind).await?;
    let tenant = home.tenant().await?;
    let receiver = Receiver::healthy()?;
    let good = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let bad = tenant.subscribe(&receiver, &["workflow.started"]).await?;
    let copy = format!(
        "UPDATE subscriptions SET secret = (SELECT secret FROM subscriptions WHERE id = {good}) \
         WHERE id = {bad}"
    );
    home.peers()?.sql(&copy).await?;
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
    home.end().await
}
