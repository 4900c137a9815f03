//! Failure detection: the dispatchers that beat, as one dispatcher observes them. It measures a silence in reads that
//! the store answered, each within a second after the one before. While the store is away, or this process is frozen,
//! it observes no silence.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hookline_core::partition::DispatcherId;
use hookline_store::ClusterState;

/// The number of reads in a row that show the same beat of a dead dispatcher.
const READS: u32 = 7;

/// An owner acts for 2.5 s after it sent its last beat ([`super::membership::VALID`]). A little more passes from the
/// first answer until the last read is sent, whatever the delays.
const SILENCE: Duration = Duration::from_millis(2_750);

/// A longer pause between two answers restarts the observation.
const PAUSE: Duration = Duration::from_secs(1);

/// The time for which a newcomer beats before others give partitions up for it.
const PROBATION: Duration = Duration::from_secs(10);

/// A successor is a dispatcher with a beat that is no older than this number of reads.
const FRESH_READS: u32 = 3;

/// When a read was sent, and when its answer came.
#[derive(Debug, Clone, Copy)]
pub(super) struct RosterRead {
    pub(super) sent: Instant,
    pub(super) answered: Instant,
}

#[derive(Debug)]
struct BeatHistory {
    /// None for an owner without a row.
    beat: Option<i64>,
    /// The time of the answer to the first read that showed this beat.
    since: Instant,
    /// The reads in a row that showed this beat.
    reads: u32,
    /// `reads` and those before a pause.
    all_reads: u32,
    moved: bool,
    /// True until its beat moves: no pause brings an owner back after an observed silence.
    dead: bool,
    /// The end of its probation.
    established_from: Instant,
}

/// The beats of all dispatchers, and of owners that are not registered any more.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// The last read; none where it failed.
    last: Option<RosterRead>,
    seen: BTreeMap<DispatcherId, BeatHistory>,
}

impl Liveness {
    pub(super) fn observe(&mut self, roster: &ClusterState, read: RosterRead) {
        let first = self.seen.is_empty();
        let unbroken = self
            .last
            .is_some_and(|last| read.answered.saturating_duration_since(last.answered) <= PAUSE);
        self.last = Some(read);
        let owners = roster.partitions.iter().filter_map(|each| each.owner);
        let mut beats: BTreeMap<_, _> = owners.map(|owner| (owner, None)).collect();
        beats.extend(
            roster
                .dispatchers
                .iter()
                .map(|each| (each.id, Some(each.heartbeat))),
        );
        self.seen.retain(|id, _| beats.contains_key(id));
        // Dispatchers that were here before this one are no newcomers.
        let probation = if first { Duration::ZERO } else { PROBATION };
        for (id, beat) in beats {
            let history = self.seen.entry(id).or_insert(BeatHistory {
                beat,
                since: read.answered,
                reads: 0,
                all_reads: 0,
                moved: false,
                dead: false,
                established_from: read.answered + probation,
            });
            history.observe(beat, unbroken, read);
        }
    }

    /// Notes a failed read: the reads before it prove no silence any more.
    pub(super) fn miss(&mut self) {
        self.last = None;
    }

    /// Whether its silence has been observed, so that its partitions may be taken.
    pub(super) fn is_dead(&self, id: DispatcherId) -> bool {
        self.seen.get(&id).is_some_and(|history| history.dead)
    }

    /// Whether others give partitions up for it.
    pub(super) fn is_established(&self, id: DispatcherId) -> bool {
        let now = self.last.map(|last| last.answered);
        self.seen.get(&id).is_some_and(|history| {
            history.moved && !history.dead && Some(history.established_from) <= now
        })
    }

    /// Whether it beat a moment ago, so that it may be given partitions.
    pub(super) fn is_fresh(&self, id: DispatcherId) -> bool {
        self.seen
            .get(&id)
            .is_some_and(|history| history.moved && history.all_reads <= FRESH_READS)
    }
}

impl BeatHistory {
    fn observe(&mut self, beat: Option<i64>, unbroken: bool, read: RosterRead) {
        if self.beat != beat {
            self.moved = true;
            self.all_reads = 0;
            if self.dead {
                self.established_from = read.answered + PROBATION;
            }
            self.dead = false;
        }
        if self.beat != beat || !unbroken {
            (self.beat, self.since, self.reads) = (beat, read.answered, 0);
        }
        self.reads += 1;
        self.all_reads += 1;
        let silence = read.sent.saturating_duration_since(self.since);
        self.dead |= self.reads >= READS && silence >= SILENCE;
    }
}
