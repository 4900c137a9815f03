//! The task that reads the tail of the log for all streams of this process.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hookline_core::ids::OrganizationId;
use hookline_core::timestamp::Timestamp;
use hookline_store::{LogSnapshot, Store, StoreError, TailSpan};

use super::Live;

/// The pause between two reads.
const PAUSE: Duration = Duration::from_millis(250);

/// The pause after a slow read: this many times its duration, so that the task uses a small part of the store.
const REST: u32 = 10;

const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The pause after an error.
const AGAIN: Duration = Duration::from_secs(1);

/// The time between two checks of the keys.
const KEYS: Duration = Duration::from_secs(2);

/// Rows of a page.
const PAGE: usize = 256;

/// Reads while there are streams. An idle log costs one small query each [`PAUSE`].
pub(crate) async fn follow(live: Live, store: Store) -> Infallible {
    let mut failing = false;
    loop {
        live.0.opened.notified().await;
        let mut tail = Tail::new(&live, &store);
        while live.has_streams() {
            let began = Instant::now();
            let pause = match tail.read().await {
                Ok(()) => {
                    failing = false;
                    (began.elapsed() * REST).clamp(PAUSE, LONGEST_PAUSE)
                }
                Err(why) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(error = %why, "cannot read the log for streams, trying again");
                    }
                    AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

struct Tail<'a> {
    live: &'a Live,
    store: &'a Store,
    /// All rows that it sees were read.
    seen: Option<Arc<LogSnapshot>>,
    /// The rest of a read that failed.
    rest: Option<Unread>,
    keys_checked: Option<Instant>,
}

/// The rows that `snapshot` sees and the one before does not.
struct Unread {
    organizations: Arc<[OrganizationId]>,
    span: TailSpan,
    snapshot: Arc<LogSnapshot>,
}

impl<'a> Tail<'a> {
    fn new(live: &'a Live, store: &'a Store) -> Self {
        Self {
            live,
            store,
            seen: None,
            rest: None,
            keys_checked: None,
        }
    }

    /// Reads what is new since the last time.
    async fn read(&mut self) -> Result<(), StoreError> {
        self.check_keys().await?;
        let unread = match self.rest.take() {
            Some(rest) => rest,
            None => {
                let seen = match &self.seen {
                    Some(seen) => Arc::clone(seen),
                    None => Arc::new(self.store.log_snapshot().await?),
                };
                let organizations = self.live.begin_read(&seen);
                self.seen = Some(Arc::clone(&seen));
                let snapshot = Arc::new(self.store.log_snapshot().await?);
                Unread {
                    organizations,
                    span: snapshot.since(&seen),
                    snapshot,
                }
            }
        };
        self.read_all(unread).await
    }

    async fn read_all(&mut self, mut unread: Unread) -> Result<(), StoreError> {
        while !unread.span.is_empty() {
            let owners = Arc::clone(&unread.organizations);
            let page = match self.store.tail(owners, unread.span.clone(), PAGE).await {
                Ok(page) => page,
                Err(why) => {
                    self.rest = Some(unread);
                    return Err(why);
                }
            };
            self.live.push(page.rows, &unread.snapshot);
            match page.end {
                Some(place) => unread.span = unread.span.rest_after(place),
                None => break,
            }
        }
        self.seen = Some(unread.snapshot);
        Ok(())
    }

    /// Ends the streams of keys that were revoked or have expired. Without an answer of the store no rows come either.
    async fn check_keys(&mut self) -> Result<(), StoreError> {
        if self
            .keys_checked
            .is_some_and(|checked| checked.elapsed() < KEYS)
        {
            return Ok(());
        }
        let keys = self.live.keys();
        let now = Timestamp::from(SystemTime::now());
        let valid = self.store.valid_keys(keys.clone(), now).await?;
        for ended in keys.into_iter().filter(|key| !valid.contains(key)) {
            self.live.end(ended);
        }
        self.keys_checked = Some(Instant::now());
        Ok(())
    }
}
