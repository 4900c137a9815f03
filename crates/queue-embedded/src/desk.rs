//! Where who takes messages finds them.
//!
//! What this process has just written goes from hand to hand: it was written as taken. To take it
//! from the queue would be one more transaction to wait for, half of its way. The queue is looked
//! into for the rest: what is due later, what was given back, what found no room here, and what an
//! earlier process has left.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookline_core::timestamp::Timestamp;
use hookline_queue::{Receipt, Taken};
use hookline_store::StoreError;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long nobody looks into the queue at most: another process may have put something there.
const NAP: Duration = Duration::from_secs(5);

/// How long a source waits when the store fails.
const REST: Duration = Duration::from_secs(1);

/// What is in the queue.
pub(super) enum Look<M> {
    Found(Vec<Taken<M>>),
    /// Nothing that is due; and when something will be.
    Nothing(Option<Timestamp>),
}

pub(super) struct Desk<M> {
    pile: Mutex<Pile<M>>,
    /// How much it holds, in what `weigh` says.
    room: usize,
    weigh: fn(&M) -> usize,
    queue_first: AtomicBool,
    news: Notify,
    stopped: CancellationToken,
}

struct Pile<M> {
    handed: VecDeque<Taken<M>>,
    weight: usize,
    /// When there may be something in the queue.
    look_at: Timestamp,
}

impl<M> Desk<M> {
    pub(super) fn new(room: usize, weigh: fn(&M) -> usize) -> Self {
        Self {
            pile: Mutex::new(Pile {
                handed: VecDeque::new(),
                weight: 0,
                look_at: now(),
            }),
            room,
            weigh,
            queue_first: AtomicBool::new(true),
            news: Notify::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// How much may be handed over now. Several who ask at once may hand over a little more.
    pub(super) fn room(&self) -> usize {
        self.room.saturating_sub(self.pile().weight)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.pile().handed.len()
    }

    /// Hands messages over.
    pub(super) fn hand(&self, messages: impl IntoIterator<Item = Taken<M>>) {
        let mut pile = self.pile();
        for message in messages {
            pile.weight += (self.weigh)(&message.message);
            pile.handed.push_back(message);
        }
        drop(pile);
        self.news.notify_one();
    }

    /// Takes back what was handed over, if it still lies here.
    pub(super) fn withdraw(&self, receipt: Receipt) -> bool {
        let mut pile = self.pile();
        let found = pile.handed.iter().position(|one| one.receipt == receipt);
        let Some(withdrawn) = found.and_then(|at| pile.handed.remove(at)) else {
            return false;
        };
        pile.weight = pile.weight.saturating_sub((self.weigh)(&withdrawn.message));
        true
    }

    /// There may be something in the queue then.
    pub(super) fn look_by(&self, at: Timestamp) {
        let mut pile = self.pile();
        pile.look_at = pile.look_at.min(at);
        drop(pile);
        self.news.notify_one();
    }

    /// What lies here or is found by a look into the queue, as soon as there is anything; once
    /// nothing is wanted any more, the rest of what lies here.
    pub(super) async fn take_or_look<F>(&self, max: usize, look: impl Fn() -> F) -> Vec<Taken<M>>
    where
        F: Future<Output = Result<Look<M>, StoreError>>,
    {
        while !self.is_stopped() {
            if !self.is_time_to_look() {
                match self.take(max) {
                    taken if taken.is_empty() => self.nap().await,
                    taken => return taken,
                }
                continue;
            }
            match look().await {
                Ok(Look::Found(taken)) => {
                    // There may be more, for another taker, too.
                    self.look_by(now());
                    return taken;
                }
                Ok(Look::Nothing(Some(next))) => self.look_by(next),
                Ok(Look::Nothing(None)) => {}
                Err(why) => {
                    tracing::warn!(error = %why, "could not take from the embedded queue, trying again");
                    tokio::time::sleep(REST).await;
                    self.look_by(now());
                }
            }
        }
        self.take(usize::MAX)
    }

    /// Whether it is time to look into the queue; if so, who asks does it. Where there is something
    /// here, too, each comes in its turn.
    fn is_time_to_look(&self) -> bool {
        let mut pile = self.pile();
        let now = now();
        if pile.look_at > now {
            return false;
        }
        let queue_first = self.queue_first.fetch_xor(true, Ordering::Relaxed);
        if !queue_first && !pile.handed.is_empty() {
            return false;
        }
        // Before looking: who says meanwhile that there is something is heard.
        pile.look_at = now.after(NAP);
        true
    }

    /// What was handed over, oldest first.
    fn take(&self, max: usize) -> Vec<Taken<M>> {
        let mut pile = self.pile();
        let count = max.min(pile.handed.len());
        let taken: Vec<Taken<M>> = pile.handed.drain(..count).collect();
        let weight: usize = taken
            .iter()
            .map(|message| (self.weigh)(&message.message))
            .sum();
        pile.weight = pile.weight.saturating_sub(weight);
        let is_left = !pile.handed.is_empty();
        drop(pile);
        if is_left {
            // For another taker.
            self.news.notify_one();
        }
        taken
    }

    /// Waits until there is news, it is time to look, or nothing is wanted any more.
    async fn nap(&self) {
        let rest = self.pile().look_at.remaining(now());
        tokio::select! {
            _ = timeout(rest.min(NAP), self.news.notified()) => {}
            () = self.stopped.cancelled() => {}
        }
    }

    pub(super) fn stop(&self) {
        self.stopped.cancel();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    fn pile(&self) -> MutexGuard<'_, Pile<M>> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Timestamp {
    hookline_clock::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize) -> Taken<usize> {
        Taken {
            message: number,
            redelivered: false,
            returns: 0,
            receipt: Receipt {
                session: 0,
                tag: number as u64,
            },
        }
    }

    fn taken(desk: &Desk<usize>, max: usize) -> Vec<usize> {
        let taken = desk.take(max).into_iter();
        taken.map(|taken| taken.message).collect()
    }

    #[test]
    fn what_is_handed_over_is_taken_in_order_and_makes_room_again() {
        let desk = Desk::new(10, |weight| *weight);
        desk.hand([message(4), message(5)]);
        assert_eq!((desk.room(), desk.len()), (1, 2));
        assert_eq!(taken(&desk, 1), [4]);
        assert_eq!(desk.room(), 5);
        assert_eq!(taken(&desk, 9), [5]);
        assert_eq!(taken(&desk, 9), [0; 0]);
        assert_eq!(desk.room(), 10);
    }

    #[test]
    fn what_nobody_has_taken_can_be_withdrawn() {
        let desk = Desk::new(10, |weight| *weight);
        desk.hand([message(2), message(3)]);
        let of = |number| message(number).receipt;
        assert!(desk.withdraw(of(2)));
        assert!(!desk.withdraw(of(2)));
        assert_eq!(desk.room(), 7);
        assert_eq!(taken(&desk, 9), [3]);
        assert!(!desk.withdraw(of(3)), "somebody has it");
    }

    #[test]
    fn the_queue_is_looked_into_when_there_may_be_something_and_takes_turns_with_the_desk() {
        let desk = Desk::new(10, |_| 1);
        assert!(
            desk.is_time_to_look(),
            "an earlier process may have left something"
        );
        assert!(!desk.is_time_to_look(), "nothing was said since");
        desk.look_by(now().after(Duration::from_secs(1)));
        assert!(!desk.is_time_to_look(), "it is not due");

        desk.hand([message(1), message(2), message(3)]);
        let looks: Vec<bool> = (0..4)
            .map(|_| {
                desk.look_by(now());
                desk.is_time_to_look()
            })
            .collect();
        assert!(looks == [true, false, true, false] || looks == [false, true, false, true]);
    }

    #[tokio::test]
    async fn who_waits_wakes_for_news_and_for_the_end() {
        let desk = Desk::new(10, |_| 1);
        assert!(desk.is_time_to_look());
        desk.hand([message(1)]);
        desk.nap().await;
        assert_eq!(taken(&desk, 1), [1]);
        desk.look_by(now());
        desk.nap().await;
        assert!(desk.is_time_to_look());
        desk.stop();
        desk.nap().await;
        assert!(desk.is_stopped());
    }
}
