//! Keeping on at what a peer must be there for. Work that is held waits here, with a jittered
//! backoff, until the peer is back or the process has to give up; nothing is handed back in a loop.

use std::fmt::Display;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio_util::sync::CancellationToken;

const FIRST_WAIT: Duration = Duration::from_millis(50);
/// With its jitter a wait is up to twice as long; work must go on soon after the peer is back.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// How it ended.
#[derive(Debug)]
pub enum Ended<T, E> {
    /// Well.
    Done(T),
    /// With an error that does not pass.
    Failed(E),
    /// The process stops; whether the work was done is not known.
    Stopped,
}

/// Does `work` again and again while its error is one that `passes`, until `enough` is cancelled. A
/// try that has begun is brought to its end even then, so `work` must have a limit of its own.
/// `what` names the work in the log, such as `record attempts`.
pub async fn keep_on<T, E: Display, F: Future<Output = Result<T, E>>>(
    enough: &CancellationToken,
    what: &str,
    passes: impl Fn(&E) -> bool,
    work: impl FnMut() -> F,
) -> Ended<T, E> {
    let waits = ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times();
    let result = work
        .retry(waits)
        .when(|why| passes(why) && !enough.is_cancelled())
        .notify(|why, wait| {
            tracing::warn!(what, error = %why, wait_ms = wait.as_millis(), "could not go on, trying again");
        })
        .await;
    match result {
        Ok(done) => Ended::Done(done),
        Err(why) if passes(&why) => Ended::Stopped,
        Err(why) => Ended::Failed(why),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_until_it_is_done() {
        let tries = Cell::new(0);
        let ended = keep_on(
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
        assert!(matches!(ended, Ended::Done(20)), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_does_not_pass_ends_it() {
        let ended: Ended<(), _> = keep_on(
            &CancellationToken::new(),
            "work",
            |_| false,
            || async { Err("never") },
        )
        .await;
        assert!(matches!(ended, Ended::Failed("never")), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_stops_tries_no_more() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let ended: Ended<(), _> =
            keep_on(&shutdown, "work", |_| true, || async { Err("not yet") }).await;
        assert!(matches!(ended, Ended::Stopped), "{ended:?}");
    }
}
