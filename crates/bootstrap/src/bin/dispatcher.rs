//! The service `dispatcher`, on PostgreSQL and RabbitMQ.

use std::process::ExitCode;
use std::sync::Arc;

use hookline_bootstrap::distributed::{self, Dependencies};
use hookline_dispatcher::jobs::replayer::Replayer;
use hookline_dispatcher::jobs::{dead_letter_metrics, retention};
use hookline_dispatcher::{Dispatcher, Ownership, Policy};
use hookline_runtime::panics;
use hookline_runtime::service::{Context, run};
use hookline_store::{PlanCacheMode, ReplayPace};

fn main() -> ExitCode {
    run("dispatcher", serve)
}

async fn serve(context: Context) -> anyhow::Result<()> {
    let Dependencies {
        store,
        rabbit,
        publisher,
    } = distributed::connect_unlocked(&context, "dispatcher", PlanCacheMode::ForceGeneric).await?;
    let settings = &context.settings;
    let dispatcher = Dispatcher {
        store: store.clone(),
        ownership: Ownership::Shared(distributed::store_for_beats(settings)?),
        wake_ups: rabbit.wake_ups(),
        publisher: publisher.clone(),
        policy: Arc::new(Policy::from(&**settings)),
        quarantine: Arc::default(),
    };
    distributed::begin_listening(&*dispatcher.wake_ups).await?;
    let upkeep = retention::keep_up(store.clone(), settings.retention.age());
    tokio::spawn(panics::fatal("upkeep", upkeep));
    let replayer = Replayer {
        store: store.clone(),
        publisher: publisher.clone(),
        pace: ReplayPace {
            per_second: settings.replay.per_second,
            kept: settings.retention.age(),
        },
    };
    let replaying = replayer.run(context.shutdown.draining.clone());
    tokio::spawn(panics::fatal("replays", replaying));
    let counting = dead_letter_metrics::keep_counting(store, publisher);
    tokio::spawn(panics::fatal("dead letters", counting));
    let purging = rabbit.clone().keep_old_deliveries_purged();
    tokio::spawn(panics::fatal("old deliveries", purging));
    hookline_dispatcher::run(dispatcher, context.shutdown).await?;
    rabbit.close().await;
    Ok(())
}
