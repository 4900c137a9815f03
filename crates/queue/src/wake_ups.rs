use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use hookline_core::delivery::AttemptTask;
use hookline_core::partition::Partition;

use crate::QueueError;

/// An attempt that a wake-up names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    pub task: AttemptTask,
    /// From now, rounded up to whole seconds. A delay above a minute may end early by an eighth: the row in the store
    /// says when the attempt is due.
    pub delay: Duration,
}

impl Scheduled {
    /// An attempt without a delay.
    pub fn at_once(task: AttemptTask) -> Self {
        Self {
            task,
            delay: Duration::ZERO,
        }
    }
}

/// Wake-ups for the owner of partitions: hints that deliveries are due. A hint may be lost, come twice, come early or
/// be out of date, because a row says what is owed.
#[async_trait]
pub trait WakeUps: Send + Sync {
    /// Checks at the start that the process has the rights to listen. Any other failure is transient and is tried
    /// again.
    ///
    /// # Errors
    /// [`QueueError::Refused`].
    async fn begin(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// From now on the wake-ups of these partitions come here, and no others. It takes effect as soon as the broker
    /// answers.
    fn listen(&self, partitions: BTreeSet<Partition>);

    /// Waits for wake-ups and returns those that have arrived, in the order of arrival. Cancel-safe: dropping the
    /// future loses no wake-up.
    async fn next(&self) -> Vec<AttemptTask>;

    /// Whether wake-ups arrive at this moment. Without them deliveries start up to a second late.
    fn is_ready(&self) -> bool;
}
