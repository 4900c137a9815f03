//! [`WakeUps`] on RabbitMQ: a task that keeps a [`WakeQueue`] open and reads it into a [`WakeBuffer`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hookline_core::delivery::AttemptTask;
use hookline_core::partition::Partition;
use hookline_core::wire::WakeUp;
use hookline_queue::{QueueError, WakeUps};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::connection::refusal;
use crate::connection::session::Session;
use crate::connection::supervisor::{SupervisedConnection, backoff};
use crate::wake_ups::dropped::{DropReason, DroppedWakeUps};
use crate::wake_ups::wake_buffer::WakeBuffer;
use crate::wake_ups::wake_queue::{WakeQueue, WakeQueueError};

/// The broker does not tell a consumer that an exchange was deleted with its bindings.
const BIND_AGAIN_EVERY: Duration = Duration::from_secs(30);

/// The partitions that the queue is bound with; none without a queue.
#[derive(Debug, Clone, Default)]
struct BoundPartitions(Arc<Mutex<Option<BTreeSet<Partition>>>>);

impl BoundPartitions {
    fn set(&self, partitions: Option<BTreeSet<Partition>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = partitions;
    }

    fn is(&self, partitions: &BTreeSet<Partition>) -> bool {
        let bound = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bound.as_ref() == Some(partitions)
    }
}

#[derive(Debug)]
pub(crate) struct RabbitWakeUps {
    _task: DropGuard,
    connection: SupervisedConnection,
    wanted: watch::Sender<BTreeSet<Partition>>,
    bound: BoundPartitions,
    buffer: Arc<WakeBuffer>,
}

impl RabbitWakeUps {
    pub(crate) fn start(connection: SupervisedConnection) -> Self {
        let (wanted, changes) = watch::channel(BTreeSet::new());
        let (bound, buffer) = (BoundPartitions::default(), Arc::<WakeBuffer>::default());
        let ending = CancellationToken::new();
        let task = ListenTask {
            connection: connection.clone(),
            wanted: changes,
            bound: bound.clone(),
            buffer: Arc::clone(&buffer),
            dropped: DroppedWakeUps::new(),
        };
        tokio::spawn(ending.clone().run_until_cancelled_owned(task.run()));
        Self {
            _task: ending.drop_guard(),
            connection,
            wanted,
            bound,
            buffer,
        }
    }
}

#[async_trait]
impl WakeUps for RabbitWakeUps {
    async fn begin(&self) -> Result<(), QueueError> {
        let session = self.connection.session().await;
        match check_rights(&session).await {
            Err(WakeQueueError::Broken(error)) => match refusal::missing_right(&error) {
                Some(why) => Err(QueueError::Refused(why)),
                None => Ok(()),
            },
            Ok(()) | Err(WakeQueueError::Ended | WakeQueueError::Silent) => Ok(()),
        }
    }

    fn listen(&self, partitions: BTreeSet<Partition>) {
        self.wanted.send_replace(partitions);
    }

    async fn next(&self) -> Vec<AttemptTask> {
        self.buffer.next().await
    }

    fn is_ready(&self) -> bool {
        self.connection.is_ready() && self.bound.is(&self.wanted.borrow())
    }
}

/// Declares, consumes and binds once.
async fn check_rights(session: &Session) -> Result<(), WakeQueueError> {
    let mut queue = WakeQueue::open(session).await?;
    queue.follow(&BTreeSet::from([Partition(0)])).await?;
    queue.close().await
}

struct ListenTask {
    connection: SupervisedConnection,
    wanted: watch::Receiver<BTreeSet<Partition>>,
    bound: BoundPartitions,
    buffer: Arc<WakeBuffer>,
    dropped: DroppedWakeUps,
}

impl ListenTask {
    async fn run(mut self) {
        let mut waits = backoff();
        loop {
            let session = self.connection.session().await;
            let error = match WakeQueue::open(&session).await {
                Ok(queue) => {
                    waits = backoff();
                    self.read(queue).await
                }
                Err(error) => error,
            };
            self.bound.set(None);
            // The end of the connection has been logged.
            if session.is_connected() {
                tracing::warn!(%error, "lost the queue of wake-ups; deliveries start up to a second late");
                session.declare_again().await;
            }
            tokio::time::sleep(waits.next().unwrap_or_default()).await;
        }
    }

    /// Reads until the queue fails.
    async fn read(&mut self, mut queue: WakeQueue) -> WakeQueueError {
        self.wanted.mark_changed();
        let mut again = interval_at(Instant::now() + BIND_AGAIN_EVERY, BIND_AGAIN_EVERY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let kept = tokio::select! {
                next = queue.next() => next.map(|delivery| self.buffer(&delivery.data)),
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.follow(&mut queue).await,
                    Err(_) => Err(WakeQueueError::Ended),
                },
                _ = again.tick() => queue.bind_again().await,
            };
            if let Err(error) = kept {
                return error;
            }
        }
    }

    async fn follow(&mut self, queue: &mut WakeQueue) -> Result<(), WakeQueueError> {
        let wanted = self.wanted.borrow_and_update().clone();
        queue.follow(&wanted).await?;
        self.bound.set(Some(wanted));
        Ok(())
    }

    fn buffer(&self, body: &[u8]) {
        match WakeUp::from_wire(body) {
            Ok(WakeUp(deliveries)) => {
                let dropped = self.buffer.push(deliveries);
                self.dropped.count(dropped, DropReason::BufferFull);
            }
            Err(error) => {
                tracing::warn!("dropped a wake-up: the message {error}");
                self.dropped.count(1, DropReason::Unreadable);
            }
        }
    }
}
