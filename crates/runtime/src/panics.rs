//! Panics end the process.
//!
//! tokio keeps a panic to its task. A process that has lost one looks healthy, and the messages that the task held
//! do not come again while the connection lives. So the process ends as in a crash: the queue gives the messages to
//! another process, and a message that ends processes is found by its trial (`docs/operating.md`).

use std::panic::AssertUnwindSafe;
use std::process;

use futures::FutureExt as _;

/// Runs `work`; a panic in it ends the process. The log names the `part`; the panic's own text is on standard error.
pub async fn fatal<T>(part: &'static str, work: impl Future<Output = T>) -> T {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done,
        Err(_) => {
            tracing::error!(part, "a part of the process has panicked; the process ends");
            process::abort()
        }
    }
}
