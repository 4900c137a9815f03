//! The live streams of this process.
//!
//! One task, [`follow`](follow::follow), reads the tail of the log for all of them, while there are any. It puts the rows of
//! each organization with streams into that organization's [`ring`], which holds the newest rows. A [`reader`] is a place
//! in a ring. A reader that is so slow that the ring has dropped its place, and one that begins in the past, reads the log
//! itself until it has caught up. An idle stream therefore costs no query and has no rows of its own.

pub(crate) mod follow;
mod matching;
pub(crate) mod reader;
pub(crate) mod ring;

use std::collections::HashMap;
use std::sync::Arc;

use hookline_core::ids::{KeyId, OrganizationId};
use hookline_store::{LogPlace, LogSnapshot, TailRow};
use opentelemetry::global;
use opentelemetry::metrics::UpDownCounter;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::ApiConfig;
use ring::{LiveRow, Ring, RingRead};

/// The type of a response that is a stream.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// Bytes of rows that all rings hold together.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of rows that a ring holds at most.
const MAX_RING_BYTES: usize = 512 * 1024;

/// The open streams. Clones share them.
#[derive(Clone)]
pub(crate) struct Live(Arc<Shared>);

struct Shared {
    max_per_organization: u32,
    max: usize,
    state: Mutex<LiveState>,
    opened: Notify,
    stopping: CancellationToken,
    open: UpDownCounter<i64>,
}

#[derive(Default)]
struct LiveState {
    streams: usize,
    rings: HashMap<OrganizationId, Ring>,
    keys: HashMap<KeyId, KeyStreams>,
    /// All rows up to here are in the rings, or have been.
    horizon: Option<LogPlace>,
}

/// The streams of a key.
struct KeyStreams {
    count: usize,
    ended: CancellationToken,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamLimit {
    Organization,
    Process,
}

/// An open stream, until this is dropped.
pub(crate) struct OpenStream {
    live: Live,
    organization: OrganizationId,
    key: KeyId,
    /// Cancelled when the service stops or the key is no longer valid.
    pub(crate) ended: CancellationToken,
    /// The end of the ring; none until the task reads for it.
    news: watch::Receiver<Option<u64>>,
}

impl Live {
    pub(crate) fn new(config: &ApiConfig, stopping: CancellationToken) -> Self {
        let open = global::meter("hookline")
            .i64_up_down_counter("hookline.streams.open")
            .with_description("Streams of GET /stream that are open")
            .build();
        open.add(0, &[]);
        Self(Arc::new(Shared {
            max_per_organization: config.max_streams_per_organization,
            // A stream occupies a connection until its end, and other requests need connections, too.
            max: (config.max_connections / 2).max(1),
            state: Mutex::default(),
            opened: Notify::new(),
            stopping,
            open,
        }))
    }

    pub(crate) fn open(
        &self,
        organization: OrganizationId,
        key: KeyId,
    ) -> Result<OpenStream, StreamLimit> {
        let mut state = self.0.state.lock();
        if state.streams >= self.0.max {
            return Err(StreamLimit::Process);
        }
        let ring = state.rings.entry(organization.clone()).or_default();
        if ring.streams >= self.0.max_per_organization {
            return Err(StreamLimit::Organization);
        }
        ring.streams += 1;
        let news = ring.news.subscribe();
        let of_key = state.keys.entry(key).or_insert_with(|| KeyStreams {
            count: 0,
            ended: self.0.stopping.child_token(),
        });
        of_key.count += 1;
        let ended = of_key.ended.clone();
        state.streams += 1;
        drop(state);
        self.0.open.add(1, &[]);
        self.0.opened.notify_one();
        Ok(OpenStream {
            live: self.clone(),
            organization,
            key,
            ended,
            news,
        })
    }

    fn close(&self, stream: &OpenStream) {
        let mut state = self.0.state.lock();
        state.streams -= 1;
        if let Some(ring) = state.rings.get_mut(&stream.organization) {
            ring.streams -= 1;
            if ring.streams == 0 {
                state.rings.remove(&stream.organization);
            }
        }
        if let Some(of_key) = state.keys.get_mut(&stream.key) {
            of_key.count -= 1;
            if of_key.count == 0 {
                state.keys.remove(&stream.key);
            }
        }
        drop(state);
        self.0.open.add(-1, &[]);
    }

    fn has_streams(&self) -> bool {
        self.0.state.lock().streams > 0
    }

    fn keys(&self) -> Vec<KeyId> {
        self.0.state.lock().keys.keys().copied().collect()
    }

    /// Ends the streams of a key.
    fn end(&self, key: KeyId) {
        let state = self.0.state.lock();
        if let Some(of_key) = state.keys.get(&key) {
            of_key.ended.cancel();
        }
    }

    /// The organizations with streams. All rows that `seen` does not see will be in their rings.
    fn begin_read(&self, seen: &LogSnapshot) -> Arc<[OrganizationId]> {
        let mut state = self.0.state.lock();
        state.horizon = Some(seen.horizon());
        for ring in state.rings.values() {
            ring.begin_read();
        }
        state.rings.keys().cloned().collect()
    }

    /// Rows of a snapshot, in the order of their places.
    fn push(&self, rows: Vec<TailRow>, snapshot: &LogSnapshot) {
        let mut state = self.0.state.lock();
        let room = MAX_RING_BYTES.min(MAX_BYTES / state.rings.len().max(1));
        for row in rows {
            // The last stream of the organization may have ended.
            if let Some(ring) = state.rings.get_mut(&row.organization) {
                ring.push(Arc::new(LiveRow::new(row, snapshot)), room);
            }
        }
        for ring in state.rings.values() {
            ring.tell();
        }
    }
}

impl OpenStream {
    /// Waits until the rows of the organization are read. Returns the end of its ring, and a place before all rows that
    /// follow there.
    pub(crate) async fn joined(&mut self) -> (u64, LogPlace) {
        // The ring has the sender and exists as long as its streams.
        let _news = self.news.wait_for(Option::is_some).await;
        let state = self.live.0.state.lock();
        let ring = state.rings.get(&self.organization);
        let horizon = state.horizon.unwrap_or_else(|| LogPlace::before(0));
        (ring.map_or(0, Ring::end), horizon)
    }

    /// Some rows from a number on. At the end of the ring, a place that the stream has passed.
    fn read(&mut self, next: u64) -> RingRead {
        self.news.borrow_and_update();
        let state = self.live.0.state.lock();
        let ring = state.rings.get(&self.organization);
        ring.map_or(RingRead::Behind, |ring| ring.read(next, state.horizon))
    }

    /// Waits for rows after the last [`OpenStream::read`].
    async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            self.ended.cancelled().await;
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.live.close(self);
    }
}

#[cfg(test)]
mod tests;
