//! A rate limit of log lines: one line a second for each cause, with a count.
//!
//! Two warnings or errors are repeats of each other when they come from the same place with the same fields, numbers
//! and ids of requests left aside: how long a retry waits says nothing of its cause. The first line goes out at once. Repeats are counted,
//! and a line says once a second how many there were, until a second passes without any. So a line of which there is
//! only one is never held back, and every repeat is in a count.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

const EVERY: Duration = Duration::from_secs(1);

/// How many causes are told apart. Lines of further causes are not limited.
const MAX_CAUSES: usize = 1_000;

/// Counts repeats. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Repeats(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    causes: HashMap<String, Cause>,
}

#[derive(Debug)]
struct Cause {
    since: Instant,
    repeats: u64,
    is_error: bool,
}

/// How often a line came again.
#[derive(Debug, PartialEq, Eq)]
struct Count {
    line: String,
    repeats: u64,
    is_error: bool,
}

impl Repeats {
    /// Writes the counts of each second, for as long as the process lives.
    pub(super) fn keep_telling(&self) -> std::io::Result<()> {
        let repeats = self.clone();
        thread::Builder::new()
            .name("log repeats".to_owned())
            .spawn(move || {
                loop {
                    thread::sleep(EVERY);
                    repeats.tell(Instant::now());
                }
            })
            .map(drop)
    }

    /// Writes how often each line came again until `now`.
    pub(super) fn tell(&self, now: Instant) {
        // Its lines come back here, so the lock is not held meanwhile.
        let due = self.counts().due(now);
        for Count {
            line,
            repeats,
            is_error,
        } in due
        {
            match is_error {
                true => tracing::error!(repeats, line, "repeated a line"),
                false => tracing::warn!(repeats, line, "repeated a line"),
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Whether a line goes out: the first of its cause.
    fn admit(&mut self, line: String, level: Level, now: Instant) -> bool {
        if let Some(cause) = self.causes.get_mut(&line) {
            cause.repeats += 1;
            return false;
        }
        if self.causes.len() < MAX_CAUSES {
            let cause = Cause {
                since: now,
                repeats: 0,
                is_error: level == Level::ERROR,
            };
            self.causes.insert(line, cause);
        }
        true
    }

    /// The counts of causes that have not been told for a second. A cause without a repeat is forgotten then.
    fn due(&mut self, now: Instant) -> Vec<Count> {
        let mut due = Vec::new();
        self.causes.retain(|line, cause| {
            if now.saturating_duration_since(cause.since) < EVERY {
                return true;
            }
            let repeats = std::mem::take(&mut cause.repeats);
            cause.since = now;
            if repeats > 0 {
                due.push(Count {
                    line: line.clone(),
                    repeats,
                    is_error: cause.is_error,
                });
            }
            repeats > 0
        });
        due
    }
}

/// Writes events in a format, but for repeats. It is no filter of `tracing_subscriber`: one that looks at the fields of an
/// event and refuses it leaves a mark on the thread that can suppress the next event.
pub(super) struct Limited<F> {
    format: F,
    repeats: Repeats,
}

impl<F> Limited<F> {
    pub(super) fn new(format: F, repeats: Repeats) -> Self {
        Self { format, repeats }
    }

    fn admits(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        // What this module writes goes out as it is.
        if *metadata.level() > Level::WARN || metadata.target() == module_path!() {
            return true;
        }
        let mut line = Line(format!("{}:", metadata.target()));
        event.record(&mut line);
        let mut counts = self.repeats.counts();
        counts.admit(line.0, *metadata.level(), Instant::now())
    }
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self.admits(event) {
            true => self.format.format_event(ctx, writer, event),
            false => Ok(()),
        }
    }
}

/// A line without its numbers.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            // The id of one request says nothing of the cause.
            "request.id" => Ok(()),
            name => write!(self.0, " {name}={value:?}"),
        };
    }

    fn record_i64(&mut self, _: &Field, _: i64) {}
    fn record_u64(&mut self, _: &Field, _: u64) {}
    fn record_i128(&mut self, _: &Field, _: i128) {}
    fn record_u128(&mut self, _: &Field, _: u128) {}
    fn record_f64(&mut self, _: &Field, _: f64) {}
}

#[cfg(test)]
mod tests;
