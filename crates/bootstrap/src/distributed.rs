//! The distributed deployment mode: a service's store and broker, as its settings name them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hookline_core::partition::Partitions;
use hookline_queue::{EventConsumer, Publisher, WakeUps};
use hookline_queue_rabbitmq::{Declared, Rabbit, RabbitError, RabbitSettings};
use hookline_runtime::service::Context;
use hookline_runtime::settings::{Settings, SettingsError};
use hookline_runtime::{dependencies, panics};
use hookline_store::{PlanCacheMode, PostgresSettings, Store, StoreError};
use tokio::sync::watch;

use crate::master_keys::unlock_once_reached;

/// The time between two reads of the number of partitions.
const REREAD_EVERY: Duration = Duration::from_secs(10);

/// How long a beat of a dispatcher may take.
const BEAT_WITHIN: Duration = Duration::from_secs(1);

const REFUSED: &str = "RabbitMQ refuses this program";

pub struct Dependencies {
    pub store: Store,
    pub rabbit: Rabbit,
    pub publisher: Arc<dyn Publisher>,
}

/// The store of the settings, for a command. It connects with the first query.
pub fn store(settings: &Settings) -> Result<Store, SettingsError> {
    store_with(settings, "command", PlanCacheMode::Auto)
}

fn store_with(
    settings: &Settings,
    part: &str,
    plans: PlanCacheMode,
) -> Result<Store, SettingsError> {
    opened(&postgres(settings, part, plans)?)
}

fn postgres(
    settings: &Settings,
    part: &str,
    plans: PlanCacheMode,
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

/// A store with one connection, for the beats of a dispatcher: a statement may take a second at most.
pub fn store_for_beats(settings: &Settings) -> Result<Store, SettingsError> {
    opened(&PostgresSettings {
        connections: 1,
        wait: BEAT_WITHIN,
        statement_timeout: BEAT_WITHIN,
        ..postgres(settings, "dispatcher beat", PlanCacheMode::ForceGeneric)?
    })
}

/// The name of a connection in the servers' views.
fn name_of(part: &str) -> String {
    format!("hookline {part}")
}

/// Connects to the store, checks its schema, connects to the broker and declares the topology. Both are registered as parts
/// of the service's readiness.
///
/// # Errors
/// When a setting is missing, when one of them stays unreachable, or when the schema is not migrated.
pub async fn connect(
    context: &Context,
    service: &str,
    plans: PlanCacheMode,
) -> anyhow::Result<Dependencies> {
    let store = store_with(&context.settings, service, plans)?;
    let broker = RabbitSettings {
        url: broker_url(&context.settings)?,
        name: name_of(service),
        confirm_timeout: context.settings.broker.confirm_timeout,
    };
    // A database that only an operator can change is refused at once: waiting does not help.
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
            transient_or_refused(Rabbit::connect(broker.clone()).await)
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
    // Short of memory or disk, the broker is reachable and takes no messages.
    let (for_readiness, for_gauge) = (rabbit.clone(), rabbit.clone());
    context.readiness.register("broker_not_blocked", move || {
        for_readiness.blocked().is_none()
    });
    context.metrics.gauge(
        "hookline.broker.blocked",
        "Whether the broker takes no messages (1): it is short of memory or disk, or a right is missing",
        move || for_gauge.blocked().is_some().into(),
    );
    let partitions = keep_up_with_partitions(store.clone()).await?;
    let publisher = rabbit.waking_publisher(partitions);
    Ok(Dependencies {
        store,
        rabbit,
        publisher,
    })
}

/// Follows the number of partitions in the store. A wake-up by an old number is lost, which costs a second.
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

/// Declares the exchanges and queues on the broker of the settings, for a command.
pub async fn declare(settings: &Settings) -> anyhow::Result<Declared> {
    let broker = RabbitSettings {
        url: broker_url(settings)?,
        name: name_of("command"),
        confirm_timeout: settings.broker.confirm_timeout,
    };
    let limit = settings.start.wait_for_peers;
    dependencies::wait_for("RabbitMQ", limit, async || {
        transient_or_refused(Rabbit::declare(broker.clone()).await)
    })
    .await?
}

/// The URL of the broker, checked before the first attempt: waiting does not mend it.
fn broker_url(settings: &Settings) -> Result<String, SettingsError> {
    let url = settings.broker.required_url()?.expose().to_owned();
    hookline_queue_rabbitmq::check_url(&url).map_err(|why| SettingsError::Unusable {
        name: "broker.url",
        why: format!("{:#}", anyhow::Error::from(why)),
    })?;
    Ok(url)
}

/// A refusal is the inner error, because waiting does not end it.
fn transient_or_refused<T>(result: Result<T, RabbitError>) -> Result<anyhow::Result<T>, String> {
    match result {
        Ok(connected) => Ok(Ok(connected)),
        Err(why) if why.is_refusal() => Ok(Err(anyhow::Error::from(why).context(REFUSED))),
        Err(why) => Err(format!("{:#}", anyhow::Error::from(why))),
    }
}

/// Subscribes ahead of the first message, so that a service without the right to read stops at its start.
pub async fn begin_consuming(events: &dyn EventConsumer) -> anyhow::Result<()> {
    events.begin().await.context(REFUSED)
}

/// Checks the rights to receive wake-ups, so that a service without them stops at its start.
pub async fn begin_listening(wake_ups: &dyn WakeUps) -> anyhow::Result<()> {
    wake_ups.begin().await.context(REFUSED)
}

/// [`connect`] with the master keys, for a service that reads or writes encrypted columns.
///
/// # Errors
/// As [`connect`], and when the settings lack a master key that the store uses.
pub async fn connect_unlocked(
    context: &Context,
    service: &str,
    plans: PlanCacheMode,
) -> anyhow::Result<Dependencies> {
    // Before the connections: waiting does not mend missing keys.
    let keys = context.settings.secrets.required()?;
    let dependencies = connect(context, service, plans).await?;
    let store = unlock_once_reached(context, dependencies.store, &keys).await?;
    Ok(Dependencies {
        store,
        ..dependencies
    })
}
