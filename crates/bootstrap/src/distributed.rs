//! A service's peers, as its settings name them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hookline_core::partition::Partitions;
use hookline_queue::{EventConsumer, Publisher, WakeUps};
use hookline_queue_rabbitmq::{Declared, Rabbit, RabbitError, RabbitSettings};
use hookline_runtime::service::Context;
use hookline_runtime::settings::{Settings, SettingsError};
use hookline_runtime::{panics, peers};
use hookline_store::{Plans, PostgresSettings, Store, StoreError};
use tokio::sync::watch;

use crate::master_keys::unlock_once_reached;

/// The time between two reads of the number of partitions.
const REREAD_EVERY: Duration = Duration::from_secs(10);

/// How long a sign of life of a dispatcher may take.
const BEAT_WITHIN: Duration = Duration::from_secs(1);

const REFUSED: &str = "RabbitMQ refuses this program";

/// The store, the broker and the publisher of a service.
pub struct Peers {
    /// Where everything is kept.
    pub store: Store,
    /// Where its messages come from.
    pub rabbit: Rabbit,
    /// Where its messages go.
    pub publisher: Arc<dyn Publisher>,
}

/// The store of the settings, for a command. Nothing is dialled yet.
///
/// # Errors
/// When the settings name none, or one that cannot be reached as they say.
pub fn store(settings: &Settings) -> Result<Store, SettingsError> {
    store_with(settings, "command", Plans::OfEach)
}

fn store_with(settings: &Settings, part: &str, plans: Plans) -> Result<Store, SettingsError> {
    opened(&postgres(settings, part, plans)?)
}

fn postgres(
    settings: &Settings,
    part: &str,
    plans: Plans,
) -> Result<PostgresSettings, SettingsError> {
    let store = &settings.store;
    Ok(PostgresSettings {
        url: store.required_url()?.expose().to_owned(),
        connections: store.connections,
        wait: store.wait,
        statement_timeout: store.statement_timeout,
        plans,
        application_name: name_of(part),
    })
}

fn opened(postgres: &PostgresSettings) -> Result<Store, SettingsError> {
    Store::postgres(postgres).map_err(|why| SettingsError::Unusable {
        name: "store.url",
        why: why.to_string(),
    })
}

/// A store with one connection, for the signs of life of a dispatcher: a statement may take a second at most.
///
/// # Errors
/// When the settings name none, or one that cannot be reached as they say.
pub fn store_for_beats(settings: &Settings) -> Result<Store, SettingsError> {
    opened(&PostgresSettings {
        connections: 1,
        wait: BEAT_WITHIN,
        statement_timeout: BEAT_WITHIN,
        ..postgres(settings, "dispatcher beat", Plans::OnceForAll)?
    })
}

/// What the servers show of our connections.
fn name_of(part: &str) -> String {
    format!("hookline {part}")
}

/// The store, reached and with this version's schema, and the broker, reached and declared. Both
/// are registered as parts of the service's readiness.
///
/// # Errors
/// When the settings do not name them, when one stays away, or when the schema is not migrated.
pub async fn connect(context: &Context, service: &str, plans: Plans) -> anyhow::Result<Peers> {
    let store = store_with(&context.settings, service, plans)?;
    let broker = RabbitSettings {
        url: broker_url(&context.settings)?,
        name: name_of(service),
        confirm_timeout: context.settings.broker.confirm_timeout,
    };
    // A database that an operator has to change does not become suitable by waiting.
    let checked = context
        .wait_for("PostgreSQL", async || {
            match store.check().await.map_err(StoreError::at_first_start) {
                Err(passing @ StoreError::Unavailable(_)) => Err(passing),
                checked => Ok(checked),
            }
        })
        .await?;
    checked?;
    store.set_clock().await;
    let rabbit = context
        .wait_for("RabbitMQ", async || {
            passing(Rabbit::connect(broker.clone()).await)
        })
        .await??;
    rabbit.check_publishing().await.context(REFUSED)?;
    let watched = store.clone();
    tokio::spawn(panics::fatal(
        "store",
        async move { watched.keep_watch().await },
    ));
    let (for_store, for_broker) = (store.clone(), rabbit.clone());
    context
        .readiness
        .register("store", move || for_store.is_ready());
    context
        .readiness
        .register("broker", move || for_broker.is_ready());
    // Short of memory or disk, the broker is there and takes no messages.
    let (for_readiness, for_gauge) = (rabbit.clone(), rabbit.clone());
    context.readiness.register("broker_not_blocked", move || {
        for_readiness.blocked().is_none()
    });
    context.metrics.show(
        "hookline.broker.blocked",
        "Whether the broker takes no messages (1): it is short of memory or disk, or a right is missing",
        move || for_gauge.blocked().is_some().into(),
    );
    let partitions = keep_up_with_partitions(store.clone()).await?;
    let publisher = rabbit.waking_publisher(partitions);
    Ok(Peers {
        store,
        rabbit,
        publisher,
    })
}

/// The number of partitions as the store has it; a wake-up by an old number is lost, which costs a second.
async fn keep_up_with_partitions(store: Store) -> anyhow::Result<watch::Receiver<Partitions>> {
    let (sender, receiver) = watch::channel(store.partitions().await?);
    tokio::spawn(panics::fatal("partitions", async move {
        while !sender.is_closed() {
            tokio::time::sleep(REREAD_EVERY).await;
            if let Ok(partitions) = store.partitions().await {
                sender.send_if_modified(|known| std::mem::replace(known, partitions) != partitions);
            }
        }
    }));
    Ok(receiver)
}

/// Declares the exchanges and queues of the settings' broker, for a command.
///
/// # Errors
/// When the settings name no broker, or when it stays away or refuses.
pub async fn declare(settings: &Settings) -> anyhow::Result<Declared> {
    let broker = RabbitSettings {
        url: broker_url(settings)?,
        name: name_of("command"),
        confirm_timeout: settings.broker.confirm_timeout,
    };
    let limit = settings.start.wait_for_peers;
    peers::wait_for("RabbitMQ", limit, async || {
        passing(Rabbit::declare(broker.clone()).await)
    })
    .await?
}

/// The URL of the broker, checked: waiting does not mend what is wrong with it.
fn broker_url(settings: &Settings) -> Result<String, SettingsError> {
    let url = settings.broker.required_url()?.expose().to_owned();
    hookline_queue_rabbitmq::check_url(&url).map_err(|why| SettingsError::Unusable {
        name: "broker.url",
        why: format!("{:#}", anyhow::Error::from(why)),
    })?;
    Ok(url)
}

/// Sorts out what an operator has to change: that does not pass by waiting, and is the inner error.
fn passing<T>(result: Result<T, RabbitError>) -> Result<anyhow::Result<T>, String> {
    match result {
        Ok(connected) => Ok(Ok(connected)),
        Err(why) if why.is_refusal() => Ok(Err(anyhow::Error::from(why).context(REFUSED))),
        Err(why) => Err(format!("{:#}", anyhow::Error::from(why))),
    }
}

/// Subscribes ahead of the first message, so that a service without the right to read stops at its start.
///
/// # Errors
/// When the right is missing.
pub async fn begin(events: &dyn EventConsumer) -> anyhow::Result<()> {
    events.begin().await.context(REFUSED)
}

/// Checks the rights to listen to wake-ups, so that a service without them stops at its start.
///
/// # Errors
/// When a right is missing.
pub async fn begin_listening(wake_ups: &dyn WakeUps) -> anyhow::Result<()> {
    wake_ups.begin().await.context(REFUSED)
}

/// [`connect`] with the keys to what is sealed in the store, for a service that signs requests or
/// changes what signs them.
///
/// # Errors
/// As [`connect`], and when the settings have no keys, or not the store's.
pub async fn connect_unlocked(
    context: &Context,
    service: &str,
    plans: Plans,
) -> anyhow::Result<Peers> {
    // Before anybody is waited for: a start without keys is a mistake that no peer mends.
    let keys = context.settings.secrets.required()?;
    let peers = connect(context, service, plans).await?;
    let store = unlock_once_reached(context, peers.store, &keys).await?;
    Ok(Peers { store, ..peers })
}
