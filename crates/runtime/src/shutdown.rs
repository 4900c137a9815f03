//! Graceful shutdown. The first signal starts draining: the process takes no more work and finishes the work in hand.
//! At the deadline, unfinished work goes back to the queue. If that hangs, too, the process exits at the end of the
//! grace period, before a service manager kills it. A second signal ends the process at once.

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The part of the grace period in which unfinished work goes back to the queue; at most a fifth of it.
const FOR_REQUEUEING: Duration = Duration::from_secs(5);

/// Every task that does work holds a clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled when no more work is to be taken. Work in hand is finished.
    pub draining: CancellationToken,
    /// Cancelled when unfinished work is to be requeued.
    pub deadline: CancellationToken,
}

/// Starts a shutdown at SIGTERM or SIGINT, which ends within `grace` with status 0. When a part of the process cancels
/// `draining` instead, the status is 1. A second signal ends the process at once.
///
/// # Panics
/// Outside a tokio runtime.
pub fn within(grace: Duration) -> io::Result<Shutdown> {
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    let shutdown = Shutdown::default();
    let Shutdown { draining, deadline } = shutdown.clone();
    tokio::spawn(async move {
        let status = tokio::select! {
            first = signals.next() => {
                tracing::info!(
                    signal = first.name(),
                    grace_seconds = grace.as_secs(),
                    "stopping: finishing the work in hand"
                );
                draining.cancel();
                0
            }
            // A part of the process has failed and the others follow.
            () = draining.cancelled() => 1,
        };
        thread::spawn(move || end_after(grace, status));
        tokio::select! {
            second = signals.next() => process::exit(second.exit_status()),
            () = tokio::time::sleep(working(grace)) => deadline.cancel(),
        }
        process::exit(signals.next().await.exit_status());
    });
    Ok(shutdown)
}

/// The part of the grace period in which work in hand may finish.
pub(crate) fn working(grace: Duration) -> Duration {
    grace - FOR_REQUEUEING.min(grace / 5)
}

/// Runs on its own thread, because a task that hangs may block the threads of the runtime.
fn end_after(grace: Duration, status: i32) {
    thread::sleep(grace);
    tracing::error!("could not stop in time; unfinished work is redelivered");
    process::exit(status);
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

#[derive(Clone, Copy)]
enum Stop {
    Terminate,
    Interrupt,
}

impl Signals {
    async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Terminate,
            _ = self.interrupt.recv() => Stop::Interrupt,
        }
    }
}

impl Stop {
    fn name(self) -> &'static str {
        match self {
            Stop::Terminate => "SIGTERM",
            Stop::Interrupt => "SIGINT",
        }
    }

    /// 128 plus the signal's number, as a shell reports it.
    fn exit_status(self) -> i32 {
        match self {
            Stop::Terminate => 128 + 15,
            Stop::Interrupt => 128 + 2,
        }
    }
}
