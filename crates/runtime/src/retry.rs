//! Retries with a jittered exponential backoff, for work that needs the database or the broker. Work in hand waits here
//! until the server is back or the process stops. Requeueing it instead would loop.

use std::fmt::Display;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio_util::sync::CancellationToken;

const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Jitter makes a wait up to twice as long. Work must go on soon after the server is back.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub enum RetryOutcome<T, E> {
    Done(T),
    /// A permanent error.
    Failed(E),
    /// The process stops. The work may have been done.
    Stopped,
}

/// Repeats `work` while its error `is_transient`, until `stop` is cancelled. A call that has begun is still finished, so
/// `work` must have a time limit. `what` names the work in the log, such as `record attempts`.
pub async fn retry_until<T, E: Display, F: Future<Output = Result<T, E>>>(
    stop: &CancellationToken,
    what: &str,
    is_transient: impl Fn(&E) -> bool,
    work: impl FnMut() -> F,
) -> RetryOutcome<T, E> {
    let waits = ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times();
    let result = work
        .retry(waits)
        .when(|why| is_transient(why) && !stop.is_cancelled())
        .notify(|why, wait| {
            tracing::warn!(what, error = %why, wait_ms = wait.as_millis(), "failed, trying again");
        })
        .await;
    match result {
        Ok(done) => RetryOutcome::Done(done),
        Err(why) if is_transient(&why) => RetryOutcome::Stopped,
        Err(why) => RetryOutcome::Failed(why),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_repeated_until_it_succeeds() {
        let tries = Cell::new(0);
        let ended = retry_until(
            &CancellationToken::new(),
            "work",
            |_| true,
            || async {
                tries.set(tries.get() + 1);
                if tries.get() < 20 {
                    Err("not yet")
                } else {
                    Ok(tries.get())
                }
            },
        )
        .await;
        assert!(matches!(ended, RetryOutcome::Done(20)), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_error_ends_the_retries() {
        let ended: RetryOutcome<(), _> = retry_until(
            &CancellationToken::new(),
            "work",
            |_| false,
            || async { Err("never") },
        )
        .await;
        assert!(matches!(ended, RetryOutcome::Failed("never")), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_stops_does_not_retry() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let ended: RetryOutcome<(), _> =
            retry_until(&shutdown, "work", |_| true, || async { Err("not yet") }).await;
        assert!(matches!(ended, RetryOutcome::Stopped), "{ended:?}");
    }
}
