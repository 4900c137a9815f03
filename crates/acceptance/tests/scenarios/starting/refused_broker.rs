//! A broker that refuses a user, a vhost or a right ends a start at once. One line says which. It ends no process that
//! has been ready.

use anyhow::ensure;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::IsolatedScenario;
use hookline_testkit::broker_users::Rights;
use hookline_testkit::deployment::{Deployment, MASTER_KEY, Mode, Service};
use hookline_testkit::waiting::until;

use super::start::{Cases, Start};

pub(crate) fn distributed() -> Vec<IsolatedScenario> {
    scenarios![
        a_broker_that_refuses_is_named_at_the_start,
        a_changed_password_ends_no_process,
    ]
}

async fn a_broker_that_refuses_is_named_at_the_start(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let dependencies = deployment.dependencies()?;
    let start = |program, broker: &str| {
        Start::of(program, &[])
            .with("HOOKLINE__ADMIN__LISTEN", "127.0.0.1:0")
            .with("HOOKLINE__API__LISTEN", "127.0.0.1:0")
            .with("HOOKLINE__STORE__URL", &dependencies.database)
            .with("HOOKLINE__BROKER__URL", broker)
            .with("HOOKLINE__SECRETS__KEYS", MASTER_KEY)
            // The line would be another one after this time.
            .with("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "60")
    };
    let all = Rights {
        configure: ".*",
        write: ".*",
        read: ".*",
    };
    let (none, reader, writer) = (
        dependencies.broker_user(Rights::NONE).await?,
        dependencies
            .broker_user(Rights { write: "^$", ..all })
            .await?,
        dependencies
            .broker_user(Rights { read: "^$", ..all })
            .await?,
    );
    let mut cases = Cases::default();
    for program in ["subscription-api", "ingest", "dispatcher"] {
        let begin = format!("{program}: RabbitMQ refuses this program: ");
        let wrong = none.url().replace("hush", "hushed");
        let words = [
            &*begin,
            "wrong user or password (ACCESS_REFUSED",
            "correct the broker URL",
        ];
        cases.add(start(program, &wrong), 1, &words);
        let elsewhere = format!("{}_not", none.url());
        let words = [
            &*begin,
            "no access to the vhost (NOT_ALLOWED",
            "rabbitmqctl add_vhost",
        ];
        cases.add(start(program, &elsewhere), 1, &words);
        for user in [&none, &reader] {
            let words = [
                &*begin,
                "lacks a right (ACCESS_REFUSED",
                "hookline.delay.16",
                "docs/rights.md",
            ];
            cases.add(start(program, user.url()), 1, &words);
        }
    }
    for (program, queue) in [
        ("ingest", "hookline.events"),
        ("dispatcher", "hookline.wake.dispatcher."),
    ] {
        let words = [program, "lacks a right (ACCESS_REFUSED", queue];
        cases.add(start(program, writer.url()), 1, &words);
    }
    cases.all().await?;
    // Without the exchanges and queues, the right to declare them is missing.
    dependencies.lose_broker_data().await?;
    none.set_rights(Rights::NONE).await?;
    let mut cases = Cases::default();
    let words = [
        "are not all declared (NOT_FOUND",
        "workflow.events",
        "run `hookline migrate`",
    ];
    cases.add(start("ingest", none.url()), 1, &words);
    cases.all().await?;
    for user in [none, reader, writer] {
        user.remove().await?;
    }
    deployment.end().await
}

async fn a_changed_password_ends_no_process(mode: Mode) -> anyhow::Result<()> {
    let deployment = Deployment::prepare(mode, &[]).await?;
    let user = deployment
        .dependencies()?
        .broker_user(Rights {
            configure: ".*",
            write: ".*",
            read: ".*",
        })
        .await?;
    for service in deployment.services() {
        deployment
            .start_service(service, &[("HOOKLINE__BROKER__URL", user.url())])
            .await?;
    }
    deployment.wait_ready().await?;
    user.change_password(Some("other")).await?;
    for service in deployment.services() {
        until("readiness to know", async || {
            Ok((deployment.readiness(service).await == 503).then_some(()))
        })
        .await?;
    }
    user.change_password(None).await?;
    // It asks of each process that it runs.
    deployment.wait_ready().await?;
    ensure!(deployment.readiness(Service::Ingest).await == 200);
    user.remove().await?;
    deployment.end().await
}
