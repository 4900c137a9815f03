//! Everybody who works holds a token and stops taking work when it is cancelled. The second signal
//! is for whoever does not want to wait for what is under way.

use std::io;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that SIGTERM or SIGINT cancels; the second of them ends the process there and then.
///
/// # Errors
/// When the signals cannot be listened to.
///
/// # Panics
/// Outside a tokio runtime.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let first = signals.next().await;
        tracing::info!(
            signal = first.name(),
            "stopping: what is under way is finished"
        );
        cancelled.cancel();
        process::exit(signals.next().await.exit_status());
    });
    Ok(token)
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
