//! Standalone mode: the three services in one process, with their data in a folder.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use hookline_core::master_key::MasterKeys;
use hookline_dispatcher::jobs::replayer::Replayer;
use hookline_dispatcher::jobs::{dead_letter_metrics, retention};
use hookline_dispatcher::{Dispatcher, Ownership, Policy};
use hookline_ingest::{Ingest, IngestPolicy};
use hookline_queue_embedded::Embedded;
use hookline_runtime::panics;
use hookline_runtime::service::Context;
use hookline_store::{ReplayPace, Store};
use hookline_subscription_api::Api;
use tokio_util::sync::CancellationToken;

use crate::folder_key;

pub(crate) struct Standalone {
    pub(crate) folder: PathBuf,
    /// None means the key of the folder.
    pub(crate) keys: Option<MasterKeys>,
    pub(crate) listener: TcpListener,
}

impl Standalone {
    /// Runs until the process stops or a service fails, which stops the others. `prepare` runs before the services start,
    /// and `announce` when they serve.
    pub(crate) async fn run(
        self,
        context: Context,
        prepare: impl AsyncFnOnce(&Store) -> anyhow::Result<()>,
        announce: impl FnOnce(SocketAddr),
    ) -> anyhow::Result<()> {
        let embedded = Embedded::open(&self.folder).await?;
        let (store, publisher) = (embedded.store.clone(), embedded.publisher.clone());
        // From here on, this process holds the lock of the folder.
        let keys = self
            .keys
            .map_or_else(|| folder_key::read_or_make(&self.folder), Ok)?;
        let store = hookline_bootstrap::master_keys::unlock(store, &keys).await?;
        prepare(&store).await?;
        let settings = context.settings.clone();
        let watched = store.clone();
        tokio::spawn(panics::fatal(
            "store",
            async move { watched.keep_watch().await },
        ));
        let watched = store.clone();
        context
            .readiness
            .register("store", move || watched.is_ready());
        let ingest = Ingest {
            store: store.clone(),
            events: embedded.events.clone(),
            publisher: publisher.clone(),
            policy: IngestPolicy::from(&*settings),
            trial: Arc::default(),
        };
        let dispatcher = Dispatcher {
            store: store.clone(),
            ownership: Ownership::Sole,
            wake_ups: embedded.wake_ups.clone(),
            publisher: publisher.clone(),
            policy: Arc::new(Policy::from(&*settings)),
            quarantine: Arc::clone(&ingest.trial),
        };
        let replayer = Replayer {
            store: store.clone(),
            publisher: publisher.clone(),
            pace: ReplayPace {
                per_second: settings.replay.per_second,
                kept: settings.retention.age(),
            },
        };
        let api = Api {
            store: store.clone(),
            publisher,
            rules: settings.targets.rules(),
            config: settings.as_ref().into(),
            proxies: (&settings.api).into(),
            cors: (&settings.api).into(),
            readiness: context.readiness,
        };
        let address = self
            .listener
            .local_addr()
            .context("cannot read the address of the API")?;
        let shutdown = context.shutdown;
        let stop = &shutdown.draining;
        tokio::spawn(panics::fatal("replays", replayer.run(stop.clone())));
        let counting = dead_letter_metrics::keep_counting(store.clone(), ingest.publisher.clone());
        tokio::spawn(panics::fatal("dead letters", counting));
        let upkeep = retention::keep_up(store, settings.retention.age());
        tokio::spawn(panics::fatal("upkeep", upkeep));
        let ingesting = ends_all(stop, async {
            hookline_ingest::run(ingest, shutdown.clone()).await;
            Ok(())
        });
        let dispatching = ends_all(stop, hookline_dispatcher::run(dispatcher, shutdown.clone()));
        let serving = ends_all(
            stop,
            hookline_subscription_api::run(self.listener, api, stop.clone()),
        );
        // The listener accepts connections since it was bound.
        announce(address);
        let (ingested, dispatched, served) = tokio::join!(ingesting, dispatching, serving);
        embedded.end();
        ingested.and(dispatched).and(served)
    }
}

/// Stops all services when one of them ends.
async fn ends_all(
    stop: &CancellationToken,
    part: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let ended = part.await;
    stop.cancel();
    ended
}
