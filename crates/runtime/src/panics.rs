//! Panics end the process.
//!
//! tokio ends only the task that panics. The process would look healthy, and the messages of the task would not be
//! redelivered while the connection lives. Ending the process makes the queue give them to another process. A message
//! that crashes processes is found in quarantine (`docs/operating.md`).

use std::panic::AssertUnwindSafe;
use std::process;

use futures::FutureExt as _;

/// Runs `work`. A panic in it ends the process. The log names `part`; the text of the panic is on standard error.
pub async fn fatal<T>(part: &'static str, work: impl Future<Output = T>) -> T {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done,
        Err(_) => {
            tracing::error!(part, "a part of the process has panicked; the process ends");
            process::abort()
        }
    }
}
