//! Reads the input while events are published.
//!
//! A thread reads the input, because a read of standard input cannot be cancelled and the process must be able to end.
//! While one batch is published, the next one fills. Events of a slow input go out at once, and those of a fast input in
//! full batches.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use hookline_core::event::MAX_EVENT_BYTES;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::publish::lines::{InputLine, Lines, Rules};

/// Bytes of events in memory: those in publication and those that were read meanwhile. A JSON array of so many bytes
/// fits into the 8 MiB of a request.
const ROOM: usize = 7 * 1024 * 1024;

/// Bytes that an event takes besides its body: the comma of the array, and its fields here.
const OVERHEAD: usize = 256;

/// Lines between the thread and the publisher.
const AHEAD: usize = 1_000;

const BUFFER: usize = 256 * 1024;

pub(super) struct Feed {
    waiting: mpsc::Receiver<io::Result<(InputLine, OwnedSemaphorePermit)>>,
    /// The size of the input, where it is a file.
    pub(super) bytes: Option<u64>,
}

/// Dropping a batch frees its memory for further lines.
pub(super) struct LineBatch {
    pub(super) lines: Vec<InputLine>,
    _room: Vec<OwnedSemaphorePermit>,
}

impl Feed {
    /// Starts to read `path`, or standard input for `-`.
    pub(super) fn open(path: &Path, rules: Rules) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" {
            return Self::start(io::stdin(), None, rules);
        }
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (about, file) = opened.with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::ensure!(!about.is_dir(), "{} is a folder", path.display());
        let bytes = about.is_file().then_some(about.len());
        Self::start(file, bytes, rules)
    }

    fn start(
        input: impl Read + Send + 'static,
        bytes: Option<u64>,
        rules: Rules,
    ) -> anyhow::Result<Self> {
        let (sender, waiting) = mpsc::channel(AHEAD);
        let room = Arc::new(Semaphore::new(ROOM));
        let runtime = Handle::current();
        let work = move || {
            let mut lines = Lines::new(BufReader::with_capacity(BUFFER, input), rules);
            while let Some(line) = lines.next().transpose() {
                let admitted = line.and_then(|line| {
                    let taking = Arc::clone(&room).acquire_many_owned(weight(&line));
                    let taken = runtime.block_on(taking).map_err(io::Error::other)?;
                    Ok((line, taken))
                });
                let is_last = admitted.is_err();
                if sender.blocking_send(admitted).is_err() || is_last {
                    break;
                }
            }
        };
        thread::Builder::new()
            .name("input".to_owned())
            .spawn(work)
            .context("cannot start a thread")?;
        Ok(Self { waiting, bytes })
    }

    /// Waits for a line and returns it with further lines that are there, at most `max`. None at the end.
    pub(super) async fn next(&mut self, max: usize) -> anyhow::Result<Option<LineBatch>> {
        let mut ready = Vec::with_capacity(max);
        if self.waiting.recv_many(&mut ready, max).await == 0 {
            return Ok(None);
        }
        let (mut lines, mut room) = (Vec::new(), Vec::new());
        for line in ready {
            let (line, taken) = line.context("cannot read the whole input")?;
            lines.push(line);
            room.push(taken);
        }
        Ok(Some(LineBatch { lines, _room: room }))
    }
}

/// At most [`ROOM`].
fn weight(line: &InputLine) -> u32 {
    let body = line.event.as_ref().map_or(0, |event| event.body.len());
    u32::try_from(body.min(2 * MAX_EVENT_BYTES) + OVERHEAD).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::lines::Ids;

    const RULES: Rules = Rules {
        ids: Ids::Required,
        organization: None,
    };

    const EVENT: &str = r#"{"event_id":"e","event_type":"workflow.failed","workflow_id":"w","organization_id":"o","timestamp":"2025-12-21T10:30:00Z","data":{}}"#;

    /// An input that never ends and counts the bytes that were read.
    struct Endless {
        line: Vec<u8>,
        taken: Arc<std::sync::atomic::AtomicUsize>,
        at: usize,
    }

    impl Read for Endless {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let read = (&self.line[self.at..]).read(to)?;
            self.at = (self.at + read) % self.line.len();
            self.taken
                .fetch_add(read, std::sync::atomic::Ordering::Relaxed);
            Ok(read)
        }
    }

    #[tokio::test]
    async fn every_line_arrives_in_order_and_no_batch_is_larger_than_asked_for() {
        let input = format!("{EVENT}\n").repeat(2_500);
        let bytes = io::Cursor::new(input.into_bytes());
        let mut feed = Feed::start(bytes, None, RULES).unwrap();
        let mut numbers = Vec::new();
        while let Some(batch) = feed.next(300).await.unwrap() {
            assert!((1..=300).contains(&batch.lines.len()));
            numbers.extend(batch.lines.iter().map(|line| line.number));
        }
        assert_eq!(numbers, (1..=2_500).collect::<Vec<_>>());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_endless_input_of_large_events_takes_bounded_memory() {
        let padding = "x".repeat(200_000);
        let line = EVENT.replace("{}", &format!(r#"{{"a":"{padding}"}}"#)) + "\n";
        let taken = Arc::default();
        let endless = Endless {
            line: line.clone().into_bytes(),
            taken: Arc::clone(&taken),
            at: 0,
        };
        let mut feed = Feed::start(endless, None, RULES).unwrap();
        let mut dealt_with = 0;
        let mut held = 0;
        for _ in 0..50 {
            let batch = feed.next(1_000).await.unwrap().unwrap();
            dealt_with += batch.lines.len() * line.len();
            let ahead = taken.load(std::sync::atomic::Ordering::Relaxed);
            held = held.max((ahead + batch.lines.len() * line.len()).saturating_sub(dealt_with));
            let json: usize = batch.lines.len() * (line.len() + 1);
            assert!(json < 8 * 1024 * 1024);
        }
        assert!(
            held <= ROOM + 2 * line.len() + BUFFER,
            "{held} bytes are held"
        );
    }

    #[tokio::test]
    async fn a_folder_and_a_missing_file_are_named() {
        let complaint = |path: &str| {
            Feed::open(Path::new(path), RULES)
                .err()
                .unwrap()
                .to_string()
        };
        assert_eq!(complaint("."), ". is a folder");
        assert_eq!(complaint("no/such.jsonl"), "cannot read no/such.jsonl");
    }
}
