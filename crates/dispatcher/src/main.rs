//! The service `dispatcher`, on PostgreSQL and RabbitMQ.

use std::process::ExitCode;
use std::sync::Arc;

use hookline_dispatcher::replayer::Replayer;
use hookline_dispatcher::{Dispatcher, Policy, dead_letters, maintenance, reconciler};
use hookline_home::distributed;
use hookline_runtime::panics;
use hookline_runtime::service::{Context, run};
use hookline_store::Plans;

fn main() -> ExitCode {
    run("dispatcher", serve)
}

async fn serve(context: Context) -> anyhow::Result<()> {
    let (store, rabbit) =
        distributed::connect_unlocked(&context, "dispatcher", Plans::OnceForAll).await?;
    let settings = &context.settings;
    let dispatcher = Dispatcher {
        store: store.clone(),
        attempts: rabbit.deliveries(settings.dispatcher.prefetch),
        publisher: rabbit.publisher(),
        policy: Arc::new(Policy::from(&**settings)),
        trial: Arc::default(),
    };
    distributed::begin(&*dispatcher.attempts).await?;
    let source = dispatcher.attempts.clone();
    context
        .readiness
        .register("deliveries", move || source.is_ready());
    let upkeep = maintenance::keep_up(store.clone(), settings.retention.age());
    tokio::spawn(panics::fatal("upkeep", upkeep));
    let grace = settings.dispatcher.overdue_after;
    let replayer = Replayer {
        store: store.clone(),
        publisher: rabbit.publisher(),
        per_second: settings.replay.per_second,
    };
    let replaying = replayer.run(context.shutdown.asked.clone());
    tokio::spawn(panics::fatal("replays", replaying));
    let counting = dead_letters::keep_counting(rabbit.publisher());
    tokio::spawn(panics::fatal("dead letters", counting));
    let sweeping = reconciler::keep_sweeping(store, rabbit.publisher(), grace);
    tokio::spawn(panics::fatal("reconciler", sweeping));
    hookline_dispatcher::run(dispatcher, context.shutdown).await?;
    rabbit.close().await;
    Ok(())
}
