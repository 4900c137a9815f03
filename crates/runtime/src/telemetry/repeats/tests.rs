use std::io;

use tracing::subscriber::with_default;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn lines(&self) -> Vec<String> {
        let written = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(written).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// Runs `work` with a subscriber that limits repeats.
fn limited(work: impl FnOnce(&RepeatLimiter, &Written)) {
    let (repeats, written) = (RepeatLimiter::default(), Written::default());
    let writer = written.clone();
    let layer = fmt::layer()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .map_event_format(|format| Limited::new(format, repeats.clone()));
    let subscriber = tracing_subscriber::registry().with(layer);
    with_default(subscriber, || work(&repeats, &written));
}

fn outage(error: &str, wait_ms: u64) {
    tracing::warn!(
        what = "record attempts",
        error,
        wait_ms,
        "failed, trying again"
    );
}

#[test]
fn repeats_of_a_line_are_counted_and_reported_once_a_second() {
    limited(|repeats, written| {
        for wait in 0..10_000 {
            outage("connection refused", wait);
        }
        assert_eq!(written.lines().len(), 1);
        let now = Instant::now();
        repeats.report(now + EVERY);
        let lines = written.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in [
            "WARN",
            "repeats=9999",
            "failed, trying again",
            "connection refused",
            "record attempts",
        ] {
            assert!(lines[0].contains(part), "no {part}: {lines:?}");
        }
        outage("connection refused", 0);
        assert_eq!(written.lines().len(), 0, "it goes on");
        repeats.report(now + 2 * EVERY);
        assert!(written.lines()[0].contains("repeats=1 "));
    });
}

#[test]
fn a_request_id_is_not_part_of_the_cause() {
    limited(|_, written| {
        for id in ["a", "b", "c"] {
            tracing::warn!(
                request.id = id,
                error = "the store is away",
                "a request failed"
            );
        }
        let lines = written.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("request.id=\"a\""), "{lines:?}");
    });
}

#[test]
fn a_single_line_is_written_at_once_and_not_reported_again() {
    limited(|repeats, written| {
        for number in 0..2 * MAX_CAUSES {
            tracing::error!(event.id = %format!("evt_{number}"), "dead-lettered event");
        }
        assert_eq!(written.lines().len(), 2 * MAX_CAUSES);
        repeats.report(Instant::now() + EVERY);
        assert_eq!(written.lines(), [""; 0]);
    });
}

#[test]
fn another_cause_is_another_line() {
    limited(|_, written| {
        outage("connection refused", 1);
        outage("the database is starting up", 1);
        outage("connection refused", 2);
        assert_eq!(written.lines().len(), 2);
    });
}

#[test]
fn after_a_second_without_a_repeat_a_line_is_written_again() {
    limited(|repeats, written| {
        outage("connection refused", 1);
        repeats.report(Instant::now() + EVERY);
        outage("connection refused", 1);
        assert_eq!(written.lines().len(), 2);
    });
}

#[test]
fn lines_below_a_warning_are_not_limited() {
    limited(|_, written| {
        for _ in 0..3 {
            tracing::info!("connected again");
        }
        assert_eq!(written.lines().len(), 3);
    });
}
