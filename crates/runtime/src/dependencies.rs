//! Waiting for dependencies. A service is often started together with its database and its broker, and is ready
//! first. It waits for them, so that no service manager has to restart it.

use std::fmt::Display;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::time::{Instant, sleep, timeout_at};

/// Jitter makes a pause up to twice as long: at first up to 200 ms, at most 3 s.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_jitter()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(Duration::from_millis(1_500))
    .without_max_times();

/// Calls `connect` until it succeeds or `limit` is over, at least once. A call that hangs ends at the limit, too. The
/// error of `connect` must not show a URL: it is logged.
///
/// # Errors
/// One line with `name` and the last failure.
pub async fn wait_for<T, E: Display>(
    name: &str,
    limit: Duration,
    mut connect: impl AsyncFnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    let mut pauses = PAUSES.build();
    let mut last = "no answer".to_owned();
    loop {
        match attempt(deadline, limit, &mut connect).await {
            Some(Ok(connected)) => return Ok(connected),
            Some(Err(failure)) => last = failure,
            // The time is over. An earlier failure says more than "no answer".
            None => {}
        }
        tracing::warn!(dependency = name, error = %last, "cannot connect yet");
        let pause = pauses.next().unwrap_or_default();
        if Instant::now() + pause >= deadline {
            anyhow::bail!(
                "{name} is not reachable after {} s: {last}",
                limit.as_secs_f64()
            );
        }
        sleep(pause).await;
    }
}

/// None where the time was over before the answer.
async fn attempt<T, E: Display>(
    deadline: Instant,
    limit: Duration,
    connect: &mut impl AsyncFnMut() -> Result<T, E>,
) -> Option<Result<T, String>> {
    // With a limit of zero there is one call, and only its own deadline ends it.
    let answer = match limit.is_zero() {
        true => connect().await,
        false => timeout_at(deadline, connect()).await.ok()?,
    };
    Some(answer.map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_server_that_starts_later_is_waited_for() {
        let start = Instant::now();
        let mut calls = 0;
        let found = wait_for("PostgreSQL", LIMIT, async || {
            calls += 1;
            match start.elapsed() {
                late if late > Duration::from_secs(10) => Ok("connected"),
                _ => Err("connection refused"),
            }
        });
        assert_eq!(found.await.unwrap(), "connected");
        assert!(start.elapsed() < Duration::from_secs(14), "{calls}");
        assert!((6..=14).contains(&calls), "{calls}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_starts_is_named_with_the_last_failure() {
        let start = Instant::now();
        let found = wait_for("PostgreSQL", LIMIT, async || {
            Err::<(), _>(match start.elapsed() {
                early if early < Duration::from_secs(30) => "no route to host",
                _ => "connection refused",
            })
        });
        insta::assert_snapshot!(
            found.await.unwrap_err(),
            @"PostgreSQL is not reachable after 60 s: connection refused"
        );
        assert!(start.elapsed() <= LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_server_that_never_answers_ends_at_the_limit() {
        let start = Instant::now();
        let found = wait_for("RabbitMQ", LIMIT, async || {
            pending::<Result<(), &str>>().await
        });
        insta::assert_snapshot!(
            found.await.unwrap_err(),
            @"RabbitMQ is not reachable after 60 s: no answer"
        );
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_last_call_without_an_answer_does_not_hide_the_earlier_failure() {
        let found = wait_for("PostgreSQL", LIMIT, async || {
            sleep(Duration::from_secs(25)).await;
            Err::<(), _>("connection refused")
        });
        insta::assert_snapshot!(
            found.await.unwrap_err(),
            @"PostgreSQL is not reachable after 60 s: connection refused"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_limit_of_zero_there_is_one_call() {
        let mut calls = 0;
        let found = wait_for("RabbitMQ", Duration::ZERO, async || {
            calls += 1;
            sleep(Duration::from_secs(1)).await;
            Err::<(), _>("connection refused")
        });
        insta::assert_snapshot!(
            found.await.unwrap_err(),
            @"RabbitMQ is not reachable after 0 s: connection refused"
        );
        assert_eq!(calls, 1);
    }
}
