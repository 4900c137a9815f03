//! The newest rows of an organization, numbered from 0. The oldest ones are dropped where there is no room.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::Arc;

use hookline_core::http_log::HeaderLog;
use hookline_store::{LogPlace, LogSnapshot, TailEntry, TailRow};
use tokio::sync::watch;

/// Rows of a ring.
const MAX_ROWS: usize = 1_024;

/// Rows and bytes of one read. A stream holds them until its client has read them.
const READ_ROWS: usize = 64;
const READ_BYTES: usize = 16 * 1024;

/// Bytes of a row without its texts: the row, its allocations, and names and ids.
const ROW_BYTES: usize = size_of::<LiveRow>() + 1_024;

#[derive(Debug)]
pub(crate) struct LiveRow {
    pub(crate) row: TailRow,
    /// A reader that has had this row goes on from here without a loss.
    pub(crate) safe: LogPlace,
    bytes: usize,
}

impl LiveRow {
    pub(crate) fn new(row: TailRow, snapshot: &LogSnapshot) -> Self {
        Self {
            safe: snapshot.safe(row.place),
            bytes: ROW_BYTES + texts(&row),
            row,
        }
    }
}

/// Bytes of the texts of a row.
fn texts(row: &TailRow) -> usize {
    let TailEntry::Attempt { attempt, .. } = &row.entry else {
        return 0;
    };
    let headers = |log: &Option<HeaderLog>| log.as_ref().map_or(0, |log| log.as_str().len());
    let http = &attempt.http;
    attempt.url.len() + headers(&http.request_headers) + headers(&http.response_headers)
}

pub(super) struct Ring {
    /// Streams of the organization.
    pub(super) streams: u32,
    pub(super) news: watch::Sender<Option<u64>>,
    rows: VecDeque<Arc<LiveRow>>,
    /// The number of the first row.
    first: u64,
    bytes: usize,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            streams: 0,
            news: watch::Sender::new(None),
            rows: VecDeque::new(),
            first: 0,
            bytes: 0,
        }
    }
}

/// The result of a read.
pub(super) enum RingRead {
    Rows(Vec<Arc<LiveRow>>),
    /// There are no more. The stream has had all rows up to this place.
    End(Option<LogPlace>),
    /// The next row was dropped.
    Behind,
}

impl Ring {
    pub(super) fn end(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    /// The newest row always has room.
    pub(super) fn push(&mut self, row: Arc<LiveRow>, room: usize) {
        self.bytes += row.bytes;
        self.rows.push_back(row);
        while self.rows.len() > MAX_ROWS || (self.bytes > room && self.rows.len() > 1) {
            let Some(oldest) = self.rows.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes;
            self.first += 1;
        }
    }

    /// From now on, all rows of the organization come here: readers may begin.
    pub(super) fn begin_read(&self) {
        let end = Some(self.end());
        self.news
            .send_if_modified(|known| known.is_none() && std::mem::replace(known, end) != end);
    }

    /// Wakes the readers where there are new rows.
    pub(super) fn tell(&self) {
        let end = Some(self.end());
        self.news
            .send_if_modified(|known| known.is_some() && std::mem::replace(known, end) != end);
    }

    pub(super) fn read(&self, next: u64, passed: Option<LogPlace>) -> RingRead {
        let Some(skip) = next.checked_sub(self.first) else {
            return RingRead::Behind;
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let some = self.rows.iter().skip(skip).take(READ_ROWS);
        let some: Vec<_> = some
            .take_while(|row| {
                let fits = bytes < READ_BYTES;
                bytes += row.bytes;
                fits
            })
            .cloned()
            .collect();
        match some.is_empty() {
            true => RingRead::End(passed),
            false => RingRead::Rows(some),
        }
    }
}
