//! The service `ingest`, on PostgreSQL and RabbitMQ.

use std::process::ExitCode;
use std::sync::Arc;

use hookline_bootstrap::distributed::{self, Dependencies};
use hookline_ingest::Ingest;
use hookline_runtime::service::{Context, run};
use hookline_store::Plans;

fn main() -> ExitCode {
    run("ingest", serve)
}

async fn serve(context: Context) -> anyhow::Result<()> {
    let Dependencies {
        store,
        rabbit,
        publisher,
    } = distributed::connect(&context, "ingest", Plans::OnceForAll).await?;
    let settings = &context.settings.ingest;
    let ingest = Ingest {
        store,
        events: rabbit.events(settings.prefetch),
        publisher,
        batch: settings.batch,
        prefetch: settings.prefetch.into(),
        max_waiting: settings.max_waiting,
        events_of_organization: context.settings.limits.event_rate(),
        max_stored_bytes: context.settings.limits.stored_bytes(),
        give_up_after: context.settings.poison.give_up_after,
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
