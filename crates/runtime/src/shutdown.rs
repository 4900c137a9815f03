//! A process stops in steps: it takes no more work and finishes what is under way; when that takes
//! too long, the rest goes back to where it came from; and if even that hangs, the process ends all
//! the same, before whoever asked for the end kills it. The second signal is for whoever does not
//! want to wait at all.

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How much of the grace is kept for handing back what was given up, and at most a fifth of it.
const FOR_HANDING_BACK: Duration = Duration::from_secs(5);

/// What everybody who works holds.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled when no more work is to be taken. What is under way is finished.
    pub asked: CancellationToken,
    /// Cancelled when what is still under way is to be given up.
    pub late: CancellationToken,
}

/// A shutdown that SIGTERM or SIGINT asks for, and that is over within `grace`: with status 0, or
/// 1 when it was not a signal that asked. The second signal ends the process there and then.
///
/// # Errors
/// When the signals cannot be listened to.
///
/// # Panics
/// Outside a tokio runtime.
pub fn within(grace: Duration) -> io::Result<Shutdown> {
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    let shutdown = Shutdown::default();
    let Shutdown { asked, late } = shutdown.clone();
    tokio::spawn(async move {
        let status = tokio::select! {
            first = signals.next() => {
                tracing::info!(
                    signal = first.name(),
                    grace_seconds = grace.as_secs(),
                    "stopping: what is under way is finished"
                );
                asked.cancel();
                0
            }
            // A part of the process has failed and the others follow.
            () = asked.cancelled() => 1,
        };
        thread::spawn(move || end_after(grace, status));
        tokio::select! {
            second = signals.next() => process::exit(second.exit_status()),
            () = tokio::time::sleep(working(grace)) => late.cancel(),
        }
        process::exit(signals.next().await.exit_status());
    });
    Ok(shutdown)
}

/// How much of the grace what is under way may take, before the rest is handed back.
pub(crate) fn working(grace: Duration) -> Duration {
    grace - FOR_HANDING_BACK.min(grace / 5)
}

/// On a thread of its own, because whatever hangs may hold up the runtime's.
fn end_after(grace: Duration, status: i32) {
    thread::sleep(grace);
    tracing::error!("could not finish in time; what is still in hand comes again");
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

    /// 128 and the signal's number, as a shell would report it.
    fn exit_status(self) -> i32 {
        match self {
            Stop::Terminate => 128 + 15,
            Stop::Interrupt => 128 + 2,
        }
    }
}
