//! Failure detection: which dispatchers beat, as one dispatcher observes it. A silence is measured in reads
//! that the store answered, each within a second after the one before: while the store is away, or this process is
//! frozen, no silence is observed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hookline_core::partition::DispatcherId;
use hookline_store::ClusterState;

/// So many reads in a row show the same beat of a dead dispatcher.
const READS: u32 = 7;

/// An owner acts for 2.5 s after it sent its last beat ([`super::membership::VALID`]). From the answer to the first
/// of the reads until the last one is sent, a little more than that passes, however they are delayed.
const SILENCE: Duration = Duration::from_millis(2_750);

/// A longer pause between two answers starts the observation anew.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a newcomer beats before others give partitions up for it.
const PROBATION: Duration = Duration::from_secs(10);

/// A successor is a dispatcher with a beat that is no older than so many reads.
const FRESH_READS: u32 = 3;

/// When a read was sent, and when its answer came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) sent: Instant,
    pub(super) answered: Instant,
}

#[derive(Debug)]
struct Sight {
    /// None for an owner without a row.
    beat: Option<i64>,
    /// When the first read was answered that showed this beat.
    since: Instant,
    /// The reads in a row that showed this beat.
    reads: u32,
    /// The same with those before a pause.
    all_reads: u32,
    moved: bool,
    /// Until its beat moves: no pause brings an owner back whose silence was observed.
    dead: bool,
    /// The end of its probation.
    counts_from: Instant,
}

/// The beats of all dispatchers, and of owners that are registered no longer.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// The last read; none where it failed.
    last: Option<Read>,
    seen: BTreeMap<DispatcherId, Sight>,
}

impl Liveness {
    pub(super) fn observe(&mut self, roster: &ClusterState, read: Read) {
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
                .map(|each| (each.id, Some(each.beat))),
        );
        self.seen.retain(|id, _| beats.contains_key(id));
        // Those that were here before are no newcomers.
        let probation = if first { Duration::ZERO } else { PROBATION };
        for (id, beat) in beats {
            let sight = self.seen.entry(id).or_insert(Sight {
                beat,
                since: read.answered,
                reads: 0,
                all_reads: 0,
                moved: false,
                dead: false,
                counts_from: read.answered + probation,
            });
            sight.see(beat, unbroken, read);
        }
    }

    /// A read failed: what was observed proves no silence any more.
    pub(super) fn miss(&mut self) {
        self.last = None;
    }

    /// Its silence has been observed: what it owned may be taken.
    pub(super) fn is_dead(&self, id: DispatcherId) -> bool {
        self.seen.get(&id).is_some_and(|sight| sight.dead)
    }

    /// Others give partitions up for it.
    pub(super) fn counts(&self, id: DispatcherId) -> bool {
        let now = self.last.map(|last| last.answered);
        self.seen
            .get(&id)
            .is_some_and(|sight| sight.moved && !sight.dead && Some(sight.counts_from) <= now)
    }

    /// It beat a moment ago, and so may be given partitions.
    pub(super) fn is_fresh(&self, id: DispatcherId) -> bool {
        self.seen
            .get(&id)
            .is_some_and(|sight| sight.moved && sight.all_reads <= FRESH_READS)
    }
}

impl Sight {
    fn see(&mut self, beat: Option<i64>, unbroken: bool, read: Read) {
        if self.beat != beat {
            self.moved = true;
            self.all_reads = 0;
            if self.dead {
                self.counts_from = read.answered + PROBATION;
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
