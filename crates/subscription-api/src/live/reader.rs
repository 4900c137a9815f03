//! The rows of one stream, in turn from the log and from the ring of its organization.

use std::sync::Arc;

use hookline_core::filter::Filter;
use hookline_core::ids::OrganizationId;
use hookline_store::{AttemptStatus, LogPlace, LogSnapshot, Store, StoreError, TailSpan};

use super::OpenStream;
use super::matching::matches;
use super::ring::{LiveRow, RingRead};

/// Rows of one read of the log. A stream holds them until its client has read them.
const PAGE: usize = 32;

pub(crate) struct Reader {
    stream: OpenStream,
    store: Store,
    organization: Arc<[OrganizationId]>,
    filter: Filter<AttemptStatus>,
    /// A stream that begins here misses nothing that this one has not had.
    place: LogPlace,
    source: Source,
    /// The rows that were read from the log.
    seen: Option<Arc<LogSnapshot>>,
}

/// A row, and a place for a stream that goes on after it.
pub(crate) type PlacedRow = (Arc<LiveRow>, LogPlace);

enum Source {
    /// The log after the place.
    Past,
    Log {
        span: TailSpan,
        snapshot: Arc<LogSnapshot>,
        /// The row of the ring after the log.
        next: u64,
    },
    Ring {
        next: u64,
    },
}

impl Reader {
    /// Begins after a place, or now.
    pub(crate) async fn new(
        mut stream: OpenStream,
        store: Store,
        filter: Filter<AttemptStatus>,
        after: Option<LogPlace>,
    ) -> Self {
        let (next, horizon) = stream.joined().await;
        Self {
            organization: Arc::from([stream.organization.clone()]),
            stream,
            store,
            filter,
            place: after.unwrap_or(horizon),
            source: match after {
                Some(_) => Source::Past,
                None => Source::Ring { next },
            },
            seen: None,
        }
    }

    pub(crate) fn place(&self) -> LogPlace {
        self.place
    }

    /// Waits for rows. There may be none that match; the place has changed then. A call that is cancelled loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Vec<PlacedRow>, StoreError> {
        loop {
            let next = match &self.source {
                Source::Past => {
                    self.begin_log().await?;
                    continue;
                }
                Source::Log { .. } => return self.read_log().await,
                Source::Ring { next } => *next,
            };
            match self.stream.read(next) {
                RingRead::Rows(rows) => return Ok(self.read_ring(next, rows)),
                RingRead::Behind => self.source = Source::Past,
                RingRead::End(passed) => {
                    self.place = passed.map_or(self.place, |passed| passed.max(self.place));
                    self.stream.changed().await;
                }
            }
        }
    }

    /// False where the log has not reached the place.
    pub(crate) async fn begin_log(&mut self) -> Result<bool, StoreError> {
        // In this order: the snapshot sees all that the ring had before.
        let (next, _) = self.stream.joined().await;
        let snapshot = Arc::new(self.store.log_snapshot().await?);
        let is_reached = snapshot.reaches(self.place);
        self.source = Source::Log {
            span: snapshot.after(self.place),
            snapshot,
            next,
        };
        Ok(is_reached)
    }

    async fn read_log(&mut self) -> Result<Vec<PlacedRow>, StoreError> {
        let Source::Log {
            span,
            snapshot,
            next,
        } = &self.source
        else {
            return Ok(Vec::new());
        };
        let (snapshot, next) = (Arc::clone(snapshot), *next);
        let page = match span.is_empty() {
            true => None,
            false => {
                let owner = Arc::clone(&self.organization);
                Some(self.store.tail(owner, span.clone(), PAGE).await?)
            }
        };
        let (rows, end) = page.map_or((Vec::new(), None), |page| (page.rows, page.end));
        let span = end.map(|end| span.clone().rest_after(end));
        let rows = rows.into_iter().map(|row| LiveRow::new(row, &snapshot));
        let rows = rows.map(Arc::new).collect();
        let rows = self.pass(rows, |_| false);
        match span {
            Some(span) => {
                self.source = Source::Log {
                    span,
                    snapshot,
                    next,
                }
            }
            None => {
                self.place = snapshot.horizon().max(self.place);
                self.source = Source::Ring { next };
                self.seen = Some(snapshot);
            }
        }
        Ok(rows)
    }

    fn read_ring(&mut self, next: u64, rows: Vec<Arc<LiveRow>>) -> Vec<PlacedRow> {
        self.source = Source::Ring {
            next: next + rows.len() as u64,
        };
        let seen = self.seen.clone();
        self.pass(rows, |row| {
            let seen = seen.as_ref();
            seen.is_some_and(|seen| seen.sees(row.row.place.recorded_in))
        })
    }

    /// Moves the place over rows. Returns those that match, without those that the stream has had.
    fn pass(
        &mut self,
        rows: Vec<Arc<LiveRow>>,
        has_had: impl Fn(&LiveRow) -> bool,
    ) -> Vec<PlacedRow> {
        let mut wanted = Vec::new();
        for row in rows {
            self.place = row.safe.max(self.place);
            if matches(&self.filter, &row.row.entry) && !has_had(&row) {
                wanted.push((row, self.place));
            }
        }
        wanted
    }
}
