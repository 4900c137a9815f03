//! Published events, until they are taken in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;
use hookline_queue::{Coming, EventSource, PublishedEvents, QueueError, Receipt, Taken, Writer};
use hookline_store::{EmbeddedQueue, NewEvents, QueuedEvents, StoreError};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::desk::{Desk, Look};
use super::life::LastLife;
use super::unwritten::{Fate, Unwritten};
use super::{now, returns, unavailable};

/// How many bytes of events go from hand to hand; what is more is taken from the queue.
const ROOM: usize = 8 * 1024 * 1024;

/// How long unwritten events wait for intake to take them in. After that they are written into the queue,
/// for their publisher waits only until they are durable, and a large fan-out takes long.
const PROMPT: Duration = Duration::from_millis(100);

/// How long an entry may be in hand: with a large fan-out, that is long. It only counts for what was taken
/// and dropped in this very process.
const LEASE: Duration = Duration::from_secs(3_600);

/// For how long events are written before anybody reads them where the process before this one
/// died: it may have died of one, and that one is found and buried only if it is there again.
const CAREFUL: Duration = Duration::from_secs(60);

/// The queue of events and what goes past it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Events {
    queue: EmbeddedQueue,
    desk: Arc<Desk<PublishedEvents>>,
    unwritten: Arc<Unwritten>,
    careful_until: Option<Instant>,
}

impl Events {
    pub(super) fn new(queue: EmbeddedQueue, last: LastLife) -> Self {
        Self {
            queue,
            desk: Arc::new(Desk::new(ROOM, |events: &PublishedEvents| {
                events.body.len()
            })),
            unwritten: Arc::default(),
            careful_until: match last {
                LastLife::EndedWell => None,
                LastLife::Died => Some(Instant::now() + CAREFUL),
            },
        }
    }

    /// Returns once they are durable. A caller who goes away meanwhile leaves it to end by itself:
    /// what is written as taken has to be handed over.
    pub(super) async fn publish(&self, events: PublishedEvents) -> Result<(), QueueError> {
        let publishing = tokio::spawn(self.clone().make_durable(events));
        publishing
            .await
            .unwrap_or_else(|died| Err(QueueError::Unavailable(died.to_string())))
    }

    async fn make_durable(self, events: PublishedEvents) -> Result<(), QueueError> {
        let goes_by_hand = self.desk.room() >= events.body.len();
        if !goes_by_hand || self.is_careful() {
            return self.push(events, goes_by_hand).await.map_err(unavailable);
        }
        let (receipt, mut told) = self.hand_over(&events);
        match self.fate_of(&events, receipt, &mut told).await {
            Some(Fate::Durable) => Ok(()),
            Some(Fate::Unwritten { takes }) => {
                let written = self
                    .queue
                    .put_off_events(Vec::new(), vec![(new_events(&events), takes)]);
                written.await.map_err(unavailable)?;
                self.desk.look_by(events.turn.unwrap_or_else(now));
                Ok(())
            }
            None => Err(QueueError::Unavailable("intake has ended".to_owned())),
        }
    }

    /// Whether events are to be written first. A store that cannot be written says so at once then.
    fn is_careful(&self) -> bool {
        let early = |until| Instant::now() < until;
        self.careful_until.is_some_and(early) || !self.queue.is_ready()
    }

    /// Gives unwritten events to intake.
    fn hand_over(&self, events: &PublishedEvents) -> (Receipt, oneshot::Receiver<Fate>) {
        let (receipt, told) = self.unwritten.enter();
        self.desk.hand([Taken {
            message: events.clone(),
            redelivered: false,
            returns: 0,
            receipt,
        }]);
        (receipt, told)
    }

    /// Waits until they are durable, or for what becomes of them before that.
    async fn fate_of(
        &self,
        events: &PublishedEvents,
        receipt: Receipt,
        told: &mut oneshot::Receiver<Fate>,
    ) -> Option<Fate> {
        if let Ok(fate) = timeout(PROMPT, &mut *told).await {
            return fate.ok();
        }
        if self.desk.withdraw(receipt) {
            let fate = Fate::Unwritten { takes: 0 };
            self.unwritten.tell([receipt], fate);
            return told.await.ok();
        }
        let lease = Some(now().after(LEASE));
        let Ok(entry) = self.queue.push_events(new_events(events), lease).await else {
            // Intake goes on trying, too.
            return told.await.ok();
        };
        if self.unwritten.written(receipt, entry) {
            return Some(Fate::Durable);
        }
        let fate = told.await.ok()?;
        self.settle_late(entry, fate).await;
        Some(Fate::Durable)
    }

    /// For an entry that was written while the fate of its events was told.
    async fn settle_late(&self, entry: i64, fate: Fate) {
        let settled = match fate {
            Fate::Durable => self.queue.ack_events(vec![entry]).await,
            Fate::Unwritten { takes: 0 } => self.queue.put_back_events(vec![entry]).await,
            Fate::Unwritten { .. } => self.queue.release_events(vec![entry]).await,
        };
        if let Err(why) = settled {
            tracing::warn!(error = %why, "could not settle events; they come again later");
        }
        self.desk.look_by(now());
    }

    /// Writes events into the queue, and hands them over where there is room.
    async fn push(&self, events: PublishedEvents, by_hand: bool) -> Result<(), StoreError> {
        let lease = by_hand.then(|| now().after(LEASE));
        let id = self.queue.push_events(new_events(&events), lease).await?;
        match by_hand {
            true => self.desk.hand([taken(events, id, 1)]),
            false => self.desk.look_by(now()),
        }
        Ok(())
    }

    /// Says so of those that stand in no queue; returns the entries of the others.
    fn tell(&self, taken: &[Taken<PublishedEvents>], fate: Fate) -> Vec<i64> {
        let receipts = taken.iter().map(|one| one.receipt);
        self.unwritten.tell(receipts, fate)
    }
}

#[async_trait]
impl EventSource for Events {
    async fn take(&self, max: usize) -> Vec<Taken<PublishedEvents>> {
        let queue = &self.queue;
        let look = || async move {
            let found = queue.take_events(max, now(), now().after(LEASE)).await?;
            if found.is_empty() {
                return Ok(Look::Nothing(queue.next_events().await?));
            }
            Ok(Look::Found(found.into_iter().map(entry).collect()))
        };
        self.desk.take_or_look(max, look).await
    }

    async fn ack(&self, taken: Vec<Taken<PublishedEvents>>) {
        let entries = self.tell(&taken, Fate::Durable);
        if entries.is_empty() {
            return;
        }
        if let Err(why) = self.queue.ack_events(entries).await {
            tracing::warn!(error = %why, "could not ack events; they come again");
        }
    }

    async fn release(&self, taken: Vec<Taken<PublishedEvents>>) {
        let entries = self.tell(&taken, Fate::Unwritten { takes: 1 });
        if let Err(why) = self.queue.release_events(entries).await {
            tracing::warn!(error = %why, "could not release events; they come again later");
        }
        self.desk.look_by(now());
    }

    async fn put_back(&self, taken: Vec<Taken<PublishedEvents>>) {
        let entries = self.tell(&taken, Fate::Unwritten { takes: 0 });
        if let Err(why) = self.queue.put_back_events(entries).await {
            tracing::warn!(error = %why, "could not put events back; they come again later");
        }
        self.desk.look_by(now());
    }

    async fn put_off(
        &self,
        taken: &[Taken<PublishedEvents>],
        coming: &[Coming],
    ) -> Result<(), QueueError> {
        let soonest = coming.iter().filter_map(|one| one.message.turn).min();
        let coming = coming.iter().map(|Coming { message, returns }| {
            let takes = i32::try_from(*returns).unwrap_or(i32::MAX);
            (new_events(message), takes)
        });
        let receipts = taken.iter().map(|one| one.receipt);
        let entries: BTreeSet<i64> = receipts
            .filter_map(|receipt| self.unwritten.entry_of(receipt))
            .collect();
        let replaced = entries.iter().copied().collect();
        let put_off = self.queue.put_off_events(replaced, coming.collect());
        put_off.await.map_err(unavailable)?;
        for entry in self.tell(taken, Fate::Durable) {
            // Written by the publisher meanwhile.
            if !entries.contains(&entry) {
                self.settle_late(entry, Fate::Durable).await;
            }
        }
        self.desk.look_by(soonest.unwrap_or_else(now));
        Ok(())
    }

    fn stop(&self) {
        self.desk.stop();
    }

    /// Nobody else delivers from the folder.
    fn holds(&self, _: &Taken<PublishedEvents>) -> bool {
        true
    }

    async fn bury(&self, taken: Taken<PublishedEvents>, reason: &str) -> Result<(), QueueError> {
        let receipt = taken.receipt;
        let buried = async {
            let entry = match self.unwritten.entry_of(receipt) {
                Some(entry) => entry,
                None => {
                    let lease = Some(now().after(LEASE));
                    let written = self.queue.push_events(new_events(&taken.message), lease);
                    written.await?
                }
            };
            let reason = reason.to_owned();
            self.queue.bury_events(entry, reason, now()).await?;
            Ok(entry)
        };
        let buried: Result<i64, StoreError> = buried.await;
        let (fate, buried) = match buried {
            Ok(entry) => (Fate::Durable, Ok(entry)),
            Err(why) => (Fate::Unwritten { takes: 1 }, Err(unavailable(why))),
        };
        for entry in self.unwritten.tell([receipt], fate) {
            // Written by the publisher meanwhile, or still to be buried.
            if !matches!(buried, Ok(done) if done == entry) {
                self.settle_late(entry, fate).await;
            }
        }
        buried.map(drop)
    }

    fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }
}

/// An entry of the queue that was taken so often, this time included.
fn taken(events: PublishedEvents, id: i64, takes: i32) -> Taken<PublishedEvents> {
    Taken {
        message: events,
        redelivered: takes > 1,
        returns: returns(takes),
        receipt: Receipt {
            session: 0,
            tag: id.unsigned_abs(),
        },
    }
}

fn entry(entry: QueuedEvents) -> Taken<PublishedEvents> {
    let events = PublishedEvents {
        body: entry.body.into(),
        content_type: entry.content_type,
        writer: Writer::Hookline,
        trace: entry.traceparent.as_deref().and_then(TraceParent::parse),
        turn: entry.turn.map(Timestamp::from_unix_micros),
    };
    taken(events, entry.id, entry.takes)
}

fn new_events(events: &PublishedEvents) -> NewEvents {
    NewEvents {
        body: events.body.clone(),
        content_type: events.content_type.clone(),
        traceparent: events.trace.map(|trace| trace.to_string()),
        turn: events.turn,
    }
}

#[cfg(test)]
mod tests {
    use hookline_store::Store;
    use tempfile::TempDir;

    use super::*;

    struct Folder {
        events: Events,
        _folder: TempDir,
    }

    async fn after(last: LastLife) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let (_, queue) = Store::embedded(folder.path()).unwrap();
        let folder = Folder {
            events: Events::new(queue, last),
            _folder: folder,
        };
        // What an earlier process has left is looked for first.
        assert_eq!(folder.written().await, 0);
        folder
    }

    impl Folder {
        fn publish(&self) -> tokio::task::JoinHandle<Result<(), QueueError>> {
            let events = self.events.clone();
            tokio::spawn(async move {
                let message = PublishedEvents {
                    body: "[]".into(),
                    content_type: None,
                    writer: Writer::Hookline,
                    trace: None,
                    turn: None,
                };
                events.publish(message).await
            })
        }

        async fn take(&self) -> Taken<PublishedEvents> {
            let mut taken = self.events.take(10).await;
            assert_eq!(taken.len(), 1);
            taken.remove(0)
        }

        /// How many stand in the queue, in whosever hands.
        async fn written(&self) -> usize {
            let beyond_leases = now().after(2 * LEASE);
            let queue = &self.events.queue;
            let taken = queue.take_events(10, beyond_leases, beyond_leases).await;
            taken.unwrap().len()
        }
    }

    #[tokio::test]
    async fn what_is_taken_in_at_once_is_never_written_into_the_queue() {
        let folder = after(LastLife::EndedWell).await;
        let publishing = folder.publish();
        let taken = folder.take().await;
        // On a slow machine its time may be over by now, and then it is written.
        let is_over = publishing.is_finished();
        assert!(!is_over || folder.written().await == 1, "it is not durable");
        folder.events.ack(vec![taken]).await;
        publishing.await.unwrap().unwrap();
        assert_eq!(folder.written().await, 0);
    }

    #[tokio::test]
    async fn what_nobody_takes_soon_is_written() {
        let folder = after(LastLife::EndedWell).await;
        folder.publish().await.unwrap().unwrap();
        assert_eq!(folder.events.desk.len(), 0);
        assert_eq!(folder.written().await, 1);
    }

    #[tokio::test]
    async fn a_publisher_does_not_wait_for_what_intake_needs_long_for() {
        let folder = after(LastLife::EndedWell).await;
        let publishing = folder.publish();
        let taken = folder.take().await;
        publishing.await.unwrap().unwrap();
        assert_eq!(folder.written().await, 1);
        folder.events.ack(vec![taken]).await;
        assert_eq!(folder.written().await, 0);

        let publishing = folder.publish();
        let taken = folder.take().await;
        publishing.await.unwrap().unwrap();
        folder.events.put_off(&[taken], &[]).await.unwrap();
        assert_eq!(folder.written().await, 0);
    }

    #[tokio::test]
    async fn what_goes_back_is_written_and_comes_again_with_what_is_held_against_it() {
        let folder = after(LastLife::EndedWell).await;
        for (untouched, returns) in [(true, 0), (false, 1)] {
            let publishing = folder.publish();
            let taken = folder.take().await;
            match untouched {
                true => folder.events.put_back(vec![taken]).await,
                false => folder.events.release(vec![taken]).await,
            }
            publishing.await.unwrap().unwrap();
            let again = folder.take().await;
            assert_eq!((again.returns, again.redelivered), (returns, returns > 0));
            folder.events.ack(vec![again]).await;
        }
        assert_eq!(folder.written().await, 0);
    }

    #[tokio::test]
    async fn what_can_never_be_taken_in_is_durable_among_the_dead_letters() {
        let folder = after(LastLife::EndedWell).await;
        let publishing = folder.publish();
        let taken = folder.take().await;
        folder.events.bury(taken, "no events").await.unwrap();
        publishing.await.unwrap().unwrap();
        assert_eq!(folder.events.queue.dead_letters().await.unwrap(), [1, 0]);
        assert_eq!(folder.written().await, 0);
    }

    #[tokio::test]
    async fn after_a_death_events_are_written_before_anybody_reads_them() {
        let folder = after(LastLife::Died).await;
        folder.publish().await.unwrap().unwrap();
        let _in_hand = folder.take().await;
        assert_eq!(folder.written().await, 1);
    }
}
