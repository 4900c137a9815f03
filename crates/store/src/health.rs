//! Readiness of a store, from the outcomes of its calls.
//!
//! Invariant: a store is ready only while its write probe succeeds and no kind of call fails. A
//! success of one kind of call says nothing about another: while INSERT on one table is refused,
//! reads succeed and so do writes to other tables.

use std::any::TypeId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::StoreError;

/// A failing kind of call is forgotten after this time without a running call of it, so that an idle process is ready soon
/// after an outage. Callers retry within a second, so a kind that still fails is not forgotten. A running call counts
/// until it ends.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(1_500);

/// The outcomes of a store's calls.
#[derive(Debug, Default)]
pub(crate) struct StoreHealth {
    /// Whether the last write probe succeeded.
    can_write: AtomicBool,
    /// Whether `failing` has an entry: a success is then the only call that takes the lock.
    any_failing: AtomicBool,
    /// The kinds of calls that last ended with a transient error.
    failing: Mutex<HashMap<TypeId, FailingCall>>,
}

#[derive(Debug)]
struct FailingCall {
    last: Instant,
    running: RunningCall,
}

/// Held for as long as a call of a failing kind runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunningCall(Arc<()>);

impl FailingCall {
    fn counts(&self, now: Instant) -> bool {
        let is_running = Arc::strong_count(&self.running.0) > 1;
        is_running || now.saturating_duration_since(self.last) < FORGOTTEN_AFTER
    }
}

/// An outcome compared with the one before of the same kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObservedCall {
    /// Success, or a permanent error.
    Well,
    /// A transient error after a success.
    Failed,
    /// A transient error after a transient error.
    FailedAgain,
}

impl StoreHealth {
    /// Begins a call of the kind `Call`, if that kind is failing. The caller keeps the guard until the call has ended.
    pub(crate) fn begin<Call: 'static>(&self) -> Option<RunningCall> {
        if !self.any_failing.load(Ordering::Acquire) {
            return None;
        }
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = failing.get(&TypeId::of::<Call>());
        of_kind.map(|failing| failing.running.clone())
    }

    /// The kind of a call is the type of its closure.
    pub(crate) fn observe<Call: 'static, T>(
        &self,
        result: &Result<T, StoreError>,
        now: Instant,
    ) -> ObservedCall {
        let call = TypeId::of::<Call>();
        let is_transient = matches!(result, Err(why) if why.is_transient());
        if !is_transient && !self.any_failing.load(Ordering::Acquire) {
            return ObservedCall::Well;
        }
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let observed = match is_transient {
            true => match failing.entry(call) {
                Entry::Vacant(entry) => {
                    entry.insert(FailingCall {
                        last: now,
                        running: RunningCall::default(),
                    });
                    ObservedCall::Failed
                }
                Entry::Occupied(mut entry) => {
                    entry.get_mut().last = now;
                    ObservedCall::FailedAgain
                }
            },
            false => {
                failing.remove(&call);
                ObservedCall::Well
            }
        };
        self.any_failing
            .store(!failing.is_empty(), Ordering::Release);
        observed
    }

    pub(crate) fn probed(&self, can_write: bool) {
        self.can_write.store(can_write, Ordering::Relaxed);
    }

    /// Whether the last write probe succeeded.
    pub(crate) fn can_write(&self) -> bool {
        self.can_write.load(Ordering::Relaxed)
    }

    /// Whether the store can be written and no kind of call fails.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.can_write() && !self.is_failing(now)
    }

    fn is_failing(&self, now: Instant) -> bool {
        if !self.any_failing.load(Ordering::Acquire) {
            return false;
        }
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.retain(|_, one| one.counts(now));
        self.any_failing
            .store(!failing.is_empty(), Ordering::Release);
        !failing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct ReadCall;
    struct Write;

    fn lost() -> Result<(), StoreError> {
        Err(StoreError::Unavailable("gone".to_owned()))
    }

    fn probed() -> (StoreHealth, Instant) {
        let health = StoreHealth::default();
        health.probed(true);
        (health, Instant::now())
    }

    #[test]
    fn a_store_is_not_ready_before_its_first_write() {
        let health = StoreHealth::default();
        assert!(!health.is_ready(Instant::now()));
        health.observe::<ReadCall, _>(&Ok(()), Instant::now());
        assert!(!health.is_ready(Instant::now()), "a read is no write");
        health.probed(true);
        assert!(health.is_ready(Instant::now()));
    }

    #[test]
    fn a_success_of_another_kind_of_call_does_not_hide_a_failure() {
        let (health, now) = probed();
        assert_eq!(
            health.observe::<Write, _>(&lost(), now),
            ObservedCall::Failed
        );
        health.observe::<ReadCall, _>(&Ok(()), now);
        assert!(!health.is_ready(now));
        let again = health.observe::<Write, _>(&lost(), now);
        assert_eq!(again, ObservedCall::FailedAgain);
        health.observe::<Write, _>(&Ok(()), now);
        assert!(health.is_ready(now));
    }

    #[test]
    fn a_refusal_is_an_answer_of_a_healthy_store() {
        let (health, now) = probed();
        let refused: Result<(), _> = Err(StoreError::Refused("taken".to_owned()));
        assert_eq!(
            health.observe::<Write, _>(&refused, now),
            ObservedCall::Well
        );
        assert!(health.is_ready(now));
    }

    #[test]
    fn a_failure_that_no_caller_repeats_is_forgotten() {
        let (health, now) = probed();
        health.observe::<Write, _>(&lost(), now);
        assert!(!health.is_ready(now + FORGOTTEN_AFTER / 2));
        assert!(health.is_ready(now + FORGOTTEN_AFTER));
    }

    #[test]
    fn a_failure_is_not_forgotten_while_a_call_of_its_kind_runs() {
        let (health, now) = probed();
        assert!(health.begin::<Write>().is_none());
        health.observe::<Write, _>(&lost(), now);
        let running = health.begin::<Write>();
        assert!(health.begin::<ReadCall>().is_none());
        let later = now + 10 * FORGOTTEN_AFTER;
        assert!(!health.is_ready(later));
        health.observe::<Write, _>(&lost(), later);
        drop(running);
        assert!(!health.is_ready(later + FORGOTTEN_AFTER / 2));
        assert!(health.is_ready(later + FORGOTTEN_AFTER));
    }

    #[test]
    fn a_failed_probe_is_not_ready_whatever_else_succeeds() {
        let (health, now) = probed();
        health.probed(false);
        health.observe::<Write, _>(&Ok(()), now);
        assert!(!health.is_ready(now));
    }
}
