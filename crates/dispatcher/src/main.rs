//! The service `dispatcher`, on PostgreSQL and RabbitMQ.

use std::process::ExitCode;
use std::sync::Arc;

use hookline_dispatcher::replayer::Replayer;
use hookline_dispatcher::{Dispatcher, Policy, dead_letters, maintenance, reconciler};
use hookline_runtime::service::{Context, run};
use hookline_store::Plans;

fn main() -> ExitCode {
    run("dispatcher", serve)
}

async fn serve(context: Context) -> anyhow::Result<()> {
    let (store, rabbit) =
        hookline_home::distributed::connect_unlocked(&context, "dispatcher", Plans::OnceForAll)
            .await?;
    let settings = &context.settings;
    let dispatcher = Dispatcher {
        store: store.clone(),
        attempts: rabbit.deliveries(settings.dispatcher.prefetch),
        publisher: rabbit.publisher(),
        policy: Arc::new(Policy::from(&**settings)),
        trial: Arc::default(),
    };
    let source = dispatcher.attempts.clone();
    context
        .readiness
        .register("deliveries", move || source.is_ready());
    tokio::spawn(maintenance::keep_up(
        store.clone(),
        settings.retention.age(),
    ));
    let grace = settings.dispatcher.overdue_after;
    let replayer = Replayer {
        store: store.clone(),
        publisher: rabbit.publisher(),
        per_second: settings.replay.per_second,
    };
    tokio::spawn(replayer.run(context.shutdown.asked.clone()));
    tokio::spawn(dead_letters::keep_counting(rabbit.publisher()));
    tokio::spawn(reconciler::keep_sweeping(store, rabbit.publisher(), grace));
    hookline_dispatcher::run(dispatcher, context.shutdown).await?;
    rabbit.close().await;
    Ok(())
}
