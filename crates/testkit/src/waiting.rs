//! Waiting for a condition, with a limit: tests do not sleep and hope.

use std::time::{Duration, Instant};

use anyhow::bail;

/// How long anything may take on a busy machine before it is taken for hung. A service itself waits a minute
/// for a broker that declares queues slowly. Work that must be quick has a bound of its own.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks until there is an answer; `what` says what was waited for in vain.
///
/// # Errors
/// When [`PATIENCE`] ends, or the asking itself fails.
pub async fn until<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if began.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} in vain for {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
