//! The exchanges and queues.
//!
//! ```text
//! workflow.events ──#──▶ [hookline.events] ────── given up ──▶ [hookline.events.rejected]
//!        └─ no queue ─▶ hookline.unrouted ──────────────────────────────▲
//!
//! hookline.delay.16 ─1─▶ [hookline.delay.16] ─ expired ─┐
//!        └─0─▶ hookline.delay.15 ◀──────────────────────┘
//!                  ⋮
//!              hookline.due ──▶ [hookline.events]: deferred messages
//!
//! hookline.operations ──▶ queues that operators bind
//!
//! hookline.wake.16 … hookline.wake.0 (as hookline.delay.n) ──▶ hookline.wake
//!     hookline.wake ──#.partition──▶ a queue of the dispatcher that owns the partition (`wake_ups`)
//! ```
//!
//! Every exchange and queue is durable, every queue a quorum queue. Dead-lettering is at-least-once, which RabbitMQ silently
//! drops unless the queue also has `reject-publish`. No queue has a maximal length: a delay with a refusing target would
//! delay all messages behind it.
//!
//! Wake-ups are the exception: they may be lost and delay nothing (`cascade`).
//!
//! Arguments are part of a queue's identity: a changed argument needs a new queue name.

use futures::future::try_join_all;
use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

use crate::arguments::{arguments, text};
use crate::cascade::{Cascade, Overflow};
use crate::delay::{DelayTarget, TOP_LEVEL, pattern};

/// Where workflow services publish.
pub(crate) const PUBLISHED: &str = "workflow.events";
pub(crate) const EVENTS: &str = "hookline.events";
pub(crate) const EVENTS_REJECTED: &str = "hookline.events.rejected";
/// Operational events, for operators.
pub(crate) const OPERATIONS: &str = "hookline.operations";
const UNROUTED: &str = "hookline.unrouted";
/// Routes dead letters by the name of the dead-letter queue.
const DEAD: &str = "hookline.dead";
/// Below the lowest level of the cascade.
const DUE: &str = "hookline.due";
/// The dispatchers' queues are bound to it, each with the patterns of its partitions.
pub(crate) const WAKE: &str = "hookline.wake";

/// Delays of events.
pub(crate) const DELAYS: Cascade = Cascade {
    name: "hookline.delay",
    end: DUE,
    overflow: Overflow::Never,
};

/// Delays of wake-ups.
pub(crate) const WAKES: Cascade = Cascade {
    name: WAKE,
    end: WAKE,
    overflow: Overflow::Above(100_000),
};

const CASCADES: [Cascade; 2] = [DELAYS, WAKES];

/// How often a message may come back, by the broker's count. Always positive: RabbitMQ 3.10 takes -1 for 0.
const DELIVERY_LIMIT: i32 = 50;

/// The same by our own count. It takes effect one return before the broker's, and so keeps the reason. It also bounds a loop
/// of nacks, which RabbitMQ 4.3 no longer limits.
pub(crate) const OWN_DELIVERY_LIMIT: u32 = DELIVERY_LIMIT.unsigned_abs();

/// For the dead-letter queue: an inspection counts as a delivery. From 4.0 on the default limit is 20, above which a message
/// without a further dead-letter target is lost.
const NO_DELIVERY_LIMIT: i32 = 1_000_000;

/// Whether only Hookline publishes to an exchange. The default exchange has the empty name.
pub(crate) fn is_own_exchange(name: &str) -> bool {
    name.is_empty() || name == DUE || (0..=TOP_LEVEL).any(|level| name == DELAYS.level(level))
}

/// Existing exchanges and queues stay as they are.
pub(crate) async fn declare(connection: &Connection) -> lapin::Result<()> {
    declare_published(connection).await?;
    let channel = &connection.create_channel().await?;

    let others = [
        (UNROUTED.to_owned(), ExchangeKind::Fanout),
        (DEAD.to_owned(), ExchangeKind::Direct),
        (DUE.to_owned(), ExchangeKind::Topic),
        (OPERATIONS.to_owned(), ExchangeKind::Topic),
        (WAKE.to_owned(), ExchangeKind::Topic),
    ];
    let levels = levels().map(|name| (name, ExchangeKind::Topic));
    try_join_all(others.into_iter().chain(levels).map(|(name, kind)| {
        let options = durable_exchange();
        channel.exchange_declare(name.into(), kind, options, FieldTable::default())
    }))
    .await?;

    try_join_all(queues().into_iter().map(|(name, arguments)| {
        channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments)
    }))
    .await?;

    bind(channel).await
}

/// A publisher may have declared it before, as the plain exchange that the contract names. Then it stays without the
/// alternate exchange, which only matters while `hookline.events` is missing.
async fn declare_published(connection: &Connection) -> lapin::Result<()> {
    let alternate = arguments([("alternate-exchange", text(UNROUTED))]);
    let declared = declare_topic(connection, alternate).await;
    match declared {
        Err(error) if is_precondition_failed(&error) => {
            tracing::warn!(
                exchange = PUBLISHED,
                "the exchange was declared by another user without an alternate exchange"
            );
            declare_topic(connection, FieldTable::default()).await
        }
        declared => declared,
    }
}

async fn declare_topic(connection: &Connection, arguments: FieldTable) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = durable_exchange();
    channel
        .exchange_declare(PUBLISHED.into(), ExchangeKind::Topic, options, arguments)
        .await
}

/// Checks that each exchange and queue exists, which needs no right (RabbitMQ, "Access Control", operations). Bindings cannot
/// be checked.
///
/// # Errors
/// Also when one is missing.
pub(crate) async fn find(connection: &Connection) -> lapin::Result<()> {
    find_exchanges(connection).await?;
    let names = queues().into_iter().map(|(name, _)| name);
    find_queues(connection, names.collect()).await
}

/// [`find`] without the queues of delays: the broker asks the leader of each queue, and waits for a frozen one.
pub(crate) async fn find_main(connection: &Connection) -> lapin::Result<()> {
    find_exchanges(connection).await?;
    find_queues(connection, vec![EVENTS.to_owned()]).await
}

async fn find_exchanges(connection: &Connection) -> lapin::Result<()> {
    find_published(connection).await?;
    let channel = &connection.create_channel().await?;
    let names = [UNROUTED, DEAD, DUE, OPERATIONS, WAKE].map(str::to_owned);
    let exchanges = names.into_iter().chain(levels());
    try_join_all(exchanges.map(|name| find_exchange(channel, name))).await?;
    Ok(())
}

async fn find_queues(connection: &Connection, names: Vec<String>) -> lapin::Result<()> {
    let channel = &connection.create_channel().await?;
    try_join_all(
        names
            .into_iter()
            .map(|name| channel.queue_declare(name.into(), passive(), FieldTable::default())),
    )
    .await?;
    Ok(())
}

/// [`find`] for the exchange for events only.
pub(crate) async fn find_published(connection: &Connection) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    find_exchange(&channel, PUBLISHED.to_owned()).await
}

async fn find_exchange(channel: &Channel, name: String) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            name.into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        )
        .await
}

fn is_precondition_failed(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 406)
}

fn queues() -> Vec<(String, FieldTable)> {
    let work = |name: &str, dead: &str| {
        let arguments = arguments([
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", text(DEAD)),
            ("x-dead-letter-routing-key", text(dead)),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]);
        (name.to_owned(), arguments)
    };
    let dead = |name: &str| {
        let arguments = arguments([
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(NO_DELIVERY_LIMIT)),
        ]);
        (name.to_owned(), arguments)
    };
    let mut queues = vec![work(EVENTS, EVENTS_REJECTED), dead(EVENTS_REJECTED)];
    for cascade in CASCADES {
        queues.extend((0..=TOP_LEVEL).map(|level| cascade.queue(level)));
    }
    queues
}

/// The names of the exchanges of all levels, which are those of the queues, too.
fn levels() -> impl Iterator<Item = String> {
    let of = |cascade: Cascade| (0..=TOP_LEVEL).map(move |level| cascade.level(level));
    CASCADES.into_iter().flat_map(of)
}

async fn bind(channel: &Channel) -> lapin::Result<()> {
    let every_level = || {
        let of = |cascade: Cascade| (0..=TOP_LEVEL).map(move |level| (cascade, level));
        CASCADES.into_iter().flat_map(of)
    };
    let fixed = [
        (EVENTS.to_owned(), PUBLISHED.to_owned(), "#".to_owned()),
        (EVENTS_REJECTED.to_owned(), UNROUTED.to_owned(), "".into()),
        dead_binding(EVENTS_REJECTED),
        (EVENTS.into(), DUE.into(), DelayTarget::Events.pattern()),
    ];
    let ones = every_level().map(|(cascade, level)| {
        let name = cascade.level(level);
        (name.clone(), name, pattern(level, '1'))
    });
    let queues = fixed.into_iter().chain(ones).map(|(queue, from, key)| {
        let options = QueueBindOptions::default();
        channel.queue_bind(
            queue.into(),
            from.into(),
            key.into(),
            options,
            FieldTable::default(),
        )
    });
    try_join_all(queues).await?;

    let zeros = every_level().map(|(cascade, level)| {
        channel.exchange_bind(
            cascade.below(level).into(),
            cascade.level(level).into(),
            pattern(level, '0').into(),
            ExchangeBindOptions::default(),
            FieldTable::default(),
        )
    });
    try_join_all(zeros).await?;
    Ok(())
}

fn dead_binding(queue: &str) -> (String, String, String) {
    (queue.to_owned(), DEAD.to_owned(), queue.to_owned())
}

fn durable_exchange() -> ExchangeDeclareOptions {
    ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    }
}

/// Checks that a queue exists and counts its messages, without declaring it.
pub(crate) fn passive() -> QueueDeclareOptions {
    QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    }
}
