//! What is put off, gathered for a moment.
//!
//! Nobody waits for it, and every statement and every flush of a disk that is made for it is paid
//! for by those who are waited for; and so is a heap of messages in front of theirs. So it leaves
//! little by little, some at once, and beside the requests. Only a flood leaves as it comes: behind
//! it in the queue are messages of others.

use std::time::{Duration, Instant};

use hookline_core::delivery::Origin;
use hookline_core::ids::DeliveryId;
use hookline_runtime::panics;
use hookline_runtime::patience::Ended;
use hookline_store::Wait;
use tokio::task::JoinHandle;

use super::BATCH;
use crate::Dispatcher;
use crate::decision::{Task, decide};
use crate::due::InHand;
use crate::lanes::Excess;
use crate::loads::Loads;
use crate::recorder::{Finished, Recorder, Result};

/// How long it is from when some leave, or the first comes, until the next leave.
const PAUSE: Duration = Duration::from_millis(50);

/// How many leave together, unless a quarter of all are more.
const FEW: usize = 8;

/// So many are a flood.
const MANY: usize = 128;

/// What is put off and what that takes.
pub(super) struct PuttingOff {
    clerk: Clerk,
    gathered: Vec<Excess<InHand>>,
    /// When the first of them came, or some have left.
    since: Instant,
    leaving: Option<JoinHandle<Vec<InHand>>>,
}

#[derive(Clone)]
struct Clerk {
    dispatcher: Dispatcher,
    recorder: Recorder,
    loads: Loads,
}

impl PuttingOff {
    /// Nothing is put off yet.
    pub(super) fn new(dispatcher: Dispatcher, recorder: Recorder, loads: Loads) -> Self {
        Self {
            clerk: Clerk {
                dispatcher,
                recorder,
                loads,
            },
            gathered: Vec::new(),
            since: Instant::now(),
            leaving: None,
        }
    }

    /// To be put off soon.
    pub(super) fn gather(&mut self, excess: Vec<Excess<InHand>>) {
        if self.gathered.is_empty() {
            self.since = Instant::now();
        }
        self.gathered.extend(excess);
    }

    /// Whether it gathers faster than it leaves.
    pub(super) fn is_full(&self) -> bool {
        self.gathered.len() >= BATCH
    }

    /// Lets go what is due to leave, and returns the tests that were among it: they are not put
    /// off. Waits while there is nothing; may be dropped half-way and called again.
    pub(super) async fn proceed(&mut self) -> Vec<InHand> {
        loop {
            if let Some(leaving) = &mut self.leaving {
                let tests = leaving.await;
                self.leaving = None;
                return tests.unwrap_or_default();
            }
            let all = self.gathered.len();
            let count = match all {
                0 => std::future::pending().await,
                MANY.. => all,
                _ => {
                    tokio::time::sleep_until((self.since + PAUSE).into()).await;
                    all.min(FEW.max(all / 4))
                }
            };
            let some = self.gathered.drain(..count).collect();
            self.since = Instant::now();
            self.leaving = Some(tokio::spawn(panics::fatal(
                "putting off",
                self.clerk.clone().put_off(some),
            )));
        }
    }

    /// Lets go what has not left; what is leaving leaves.
    pub(super) async fn end(self) {
        if let Some(leaving) = self.leaving {
            let _ = leaving.await;
        }
    }
}

impl Clerk {
    /// Asks the store what has become of them, and puts off what is still owed.
    async fn put_off(self, mut excess: Vec<Excess<InHand>>) -> Vec<InHand> {
        excess.retain(|one| one.message.is_owned());
        let ids: Vec<DeliveryId> = excess.iter().map(|one| one.message.owed.delivery).collect();
        let store = &self.dispatcher.store;
        let loaded = self
            .loads
            .keep_on("load deliveries", || store.owed(ids.clone()));
        let mut owed = match loaded.await {
            Ended::Done(owed) => owed,
            ended => {
                let messages = excess.into_iter().map(|one| one.message).collect();
                self.loads.apart(messages, &ended);
                return Vec::new();
            }
        };
        let now = hookline_clock::now();
        let mut tests = Vec::new();
        for Excess {
            message: in_hand,
            delay,
        } in excess
        {
            let found = owed.remove(&in_hand.owed.delivery);
            let result = match decide(in_hand.owed, found, now) {
                Task::Attempt(owed) if owed.origin == Origin::Test => {
                    tests.push(in_hand);
                    continue;
                }
                Task::Attempt(_) => Result::Parked {
                    delay,
                    wait: Wait::Room,
                },
                Task::Settle(result) => result,
            };
            self.recorder.send(Finished { in_hand, result }).await;
        }
        tests
    }
}
