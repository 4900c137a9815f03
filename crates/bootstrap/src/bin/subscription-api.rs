//! The service `subscription-api`, on PostgreSQL and RabbitMQ.

use std::process::ExitCode;

use hookline_bootstrap::distributed::Dependencies;
use hookline_runtime::admin;
use hookline_runtime::service::{Context, run};
use hookline_store::PlanCacheMode;
use hookline_subscription_api::Api;

fn main() -> ExitCode {
    run("subscription-api", serve)
}

async fn serve(context: Context) -> anyhow::Result<()> {
    let settings = context.settings.clone();
    let listener = admin::listen("api.listen", settings.api.listen)?;
    let Dependencies {
        store,
        rabbit,
        publisher,
    } = hookline_bootstrap::distributed::connect_unlocked(
        &context,
        "subscription-api",
        PlanCacheMode::Auto,
    )
    .await?;
    let api = Api {
        store,
        publisher,
        rules: settings.targets.rules(),
        config: settings.as_ref().into(),
        proxies: (&settings.api).into(),
        cors: (&settings.api).into(),
        readiness: context.readiness,
    };
    hookline_subscription_api::run(listener, api, context.shutdown.draining).await?;
    rabbit.close().await;
    Ok(())
}
