//! Deliveries that are due in the partitions of this dispatcher, and those that it has in hand.
//!
//! A pending row with `due` is owed, and nothing else says so. A wake-up names a row as soon as it is due. A look
//! ([`looking`]), a query each second, finds the rows that no wake-up has named. Both only fill the waiting list from
//! which the worker takes. A lost hint therefore costs a second. A repeated hint is dropped here: a delivery waits or
//! is in hand once. [`InHand`] is the right to handle one delivery. After its drop a look finds the row again, unless a
//! record has moved the row on. No message is acknowledged, returned or published again.

mod group_cache;
mod known;
mod listing;
mod looking;
mod rows;
mod waiting;

use std::sync::Arc;

use hookline_queue::WakeUps;
use hookline_runtime::panics;
use tokio_util::sync::CancellationToken;

use crate::context::Dispatcher;
use crate::ownership::Watchdog;

use looking::keep_looking;

pub(crate) use group_cache::GroupCache;
pub(crate) use known::KnownDeliveries;
pub(crate) use rows::{DueRows, InHand};

/// Starts the looks for due rows and the consumer of wake-ups, until `shutdown`.
pub(crate) fn start(
    due: &DueRows,
    dispatcher: &Dispatcher,
    watchdog: &Watchdog,
    shutdown: &CancellationToken,
) {
    let listening = keep_listening(due.clone(), dispatcher.wake_ups.clone(), shutdown.clone());
    tokio::spawn(panics::fatal("wake-ups", listening));
    let store = dispatcher.store.clone();
    let looking = keep_looking(due.clone(), store, watchdog.clone(), shutdown.clone());
    tokio::spawn(panics::fatal("looking for due deliveries", looking));
}

async fn keep_listening(due: DueRows, wake_ups: Arc<dyn WakeUps>, shutdown: CancellationToken) {
    let mut owned = due.owned();
    loop {
        let woken = tokio::select! {
            () = shutdown.cancelled() => return,
            woken = wake_ups.next() => woken,
            woken = due.next_reminder() => woken,
            () = owned.changed() => {
                let partitions = owned.list();
                wake_ups.listen(partitions.iter().map(|held| held.partition).collect());
                continue;
            }
        };
        due.wake(woken);
    }
}
