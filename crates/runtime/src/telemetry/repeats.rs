//! Rate limit of log lines: one line a second for each cause, with a count.
//!
//! Two warnings or errors repeat each other when they have the same source and the same fields. Numbers and request ids do
//! not count: the wait of a retry is not part of its cause. The first line is written at once. RepeatLimiter are counted, and one
//! line a second has their number, until a second passes without a repeat. A single line is never delayed, and every
//! repeat is counted.

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

/// Lines of further causes are not limited.
const MAX_CAUSES: usize = 1_000;

/// Clones share the counts.
#[derive(Debug, Clone, Default)]
pub(super) struct RepeatLimiter(Arc<Mutex<RepeatCounts>>);

#[derive(Debug, Default)]
struct RepeatCounts {
    causes: HashMap<String, Cause>,
}

#[derive(Debug)]
struct Cause {
    since: Instant,
    repeats: u64,
    is_error: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Count {
    line: String,
    repeats: u64,
    is_error: bool,
}

impl RepeatLimiter {
    /// Starts a thread that writes the counts of each second.
    pub(super) fn start_reporting(&self) -> std::io::Result<()> {
        let repeats = self.clone();
        thread::Builder::new()
            .name("log repeats".to_owned())
            .spawn(move || {
                loop {
                    thread::sleep(EVERY);
                    repeats.report(Instant::now());
                }
            })
            .map(drop)
    }

    /// Writes the counts until `now`.
    pub(super) fn report(&self, now: Instant) {
        // The lines below are counted here, too, so the lock must not be held.
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

    fn counts(&self) -> MutexGuard<'_, RepeatCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RepeatCounts {
    /// Whether a line is written: the first of its cause.
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

    /// The counts of causes that were last reported a second ago. A cause without a repeat is removed.
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

/// Formats events except repeats. A filter of `tracing_subscriber` would not do: one that reads the fields of an event and
/// refuses it leaves a mark on the thread that can suppress the next event.
pub(super) struct Limited<F> {
    format: F,
    repeats: RepeatLimiter,
}

impl<F> Limited<F> {
    pub(super) fn new(format: F, repeats: RepeatLimiter) -> Self {
        Self { format, repeats }
    }

    fn admits(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        // Lines of this module are not limited.
        if *metadata.level() > Level::WARN || metadata.target() == module_path!() {
            return true;
        }
        let mut line = LogLine(format!("{}:", metadata.target()));
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
struct LogLine(String);

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            // A request id is not part of the cause.
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
