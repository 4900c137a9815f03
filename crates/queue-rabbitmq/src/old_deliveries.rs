//! The queue of an earlier version, in which each delivery was a durable message.
//!
//! A broker that was used by that version keeps the queue and its binding. Its messages come out of the delays for as long
//! as the longest delay: 34 hours. No process consumes them, because rows say what is owed. Without the queue they could
//! not leave the delays, and would delay the events there. The queue therefore stays and is purged; an operator deletes it after
//! that time.
//!
//! This file can go with the first release after the next one.

use std::time::Duration;

use hookline_queue::QueueError;
use lapin::options::QueuePurgeOptions;
use lapin::types::FieldTable;
use tokio::time::{MissedTickBehavior, interval};

use crate::connection::refusal;
use crate::rabbit::{Rabbit, with_timeout};
use crate::topology::passive;

const QUEUE: &str = "hookline.deliveries";

const PURGE_EVERY: Duration = Duration::from_secs(600);

impl Rabbit {
    /// Purges the queue of an earlier version at once and then every 10 minutes, where it exists. Never reticks.
    pub async fn keep_old_deliveries_purged(self) {
        let mut ticks = interval(PURGE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.purge_old_deliveries().await {
                Ok(0) => {}
                Ok(messages) => {
                    tracing::info!(
                        queue = QUEUE,
                        messages,
                        "purged a queue of an earlier version"
                    );
                }
                Err(error) => {
                    tracing::warn!(queue = QUEUE, %error, "cannot purge a queue of an earlier version");
                }
            }
        }
    }

    /// Reticks how many messages were purged; 0 where the queue does not exist, and the broker closes the channel then.
    ///
    /// # Errors
    /// [`QueueError`] when the broker does not answer, or refuses it.
    pub async fn purge_old_deliveries(&self) -> Result<u32, QueueError> {
        with_timeout(async {
            let session = self.consuming.session().await;
            let channel = session.channel().await?;
            let found = channel.queue_declare(QUEUE.into(), passive(), FieldTable::default());
            match found.await {
                Err(error) if refusal::is_not_found(&error) => return Ok(0),
                found => found?,
            };
            let purging = channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default());
            let purged = purging.await?;
            channel.close(200, "purged".into()).await?;
            Ok(purged)
        })
        .await
    }
}
