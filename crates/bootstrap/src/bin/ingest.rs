//! The service `ingest`, on PostgreSQL and RabbitMQ.

use std::process::ExitCode;
use std::sync::Arc;

use hookline_bootstrap::distributed::{self, Dependencies};
use hookline_ingest::{Ingest, IngestPolicy};
use hookline_runtime::service::{Context, run};
use hookline_store::PlanCacheMode;

fn main() -> ExitCode {
    run("ingest", serve)
}

async fn serve(context: Context) -> anyhow::Result<()> {
    let Dependencies {
        store,
        rabbit,
        publisher,
    } = distributed::connect(&context, "ingest", PlanCacheMode::ForceGeneric).await?;
    let ingest = Ingest {
        store,
        events: rabbit.events(context.settings.ingest.prefetch),
        publisher,
        policy: IngestPolicy::from(&*context.settings),
        trial: Arc::default(),
    };
    distributed::begin_consuming(&*ingest.events).await?;
    let consumer = ingest.events.clone();
    context
        .readiness
        .register("events", move || consumer.is_ready());
    hookline_ingest::run(ingest, context.shutdown).await;
    rabbit.close().await;
    Ok(())
}
