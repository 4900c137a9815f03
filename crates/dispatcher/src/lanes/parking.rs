//! For how long a message is put off.
//!
//! What is put off comes back, and if its receiver still has no room is put off again. With equal
//! delays the work of it would grow with the backlog: 100,000 messages that come back every minute
//! are 1,700 a second for nothing. So each lane has a calendar: a message is given the next free
//! place in it, and so the delay grows with the backlog and the rate at which messages come back
//! does not. All slow lanes together get [`RETURNS`] a second.
//!
//! The price is that the last of a long backlog comes back late. So a lane that is well again does
//! not wait for its calendar: what was put off is called back out of the store, no more at once
//! than it has just delivered in a row, or a few where that is news. What was called back may go to
//! another dispatcher, or fail, and then nobody would call for more: so a lane that has nothing to
//! do asks for a few each second until nothing is left, and some times more, less and less often:
//! another dispatcher may not know yet that the receiver is well. The calendar is for those that
//! are not well, and for who does not know what was put off: another dispatcher, or one before a
//! restart, has done it. The first of them that comes back says that there are more.

use std::time::{Duration, Instant};

/// How many messages of all slow lanes together come back in a second.
const RETURNS: u32 = 10;

/// The longest time for which a message is put off. A backlog that reaches beyond is laid over
/// itself, and so many more come back in a second.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// How far apart messages of a lane that only has too many of them come back.
const HARDLY: Duration = Duration::from_millis(1);

/// How many are delivered in a row before as many are called back. One that is news is worth as many.
const FEW: u32 = 8;

/// How long a lane that is well and has nothing to do waits before it asks for a few.
pub(super) const ASKS_EVERY: Duration = Duration::from_secs(1);

/// So many looks in a row that found nothing are enough. The pause before the next doubles with each.
const LOOKS: u32 = 7;

/// How many are called back at once.
const MANY: u32 = 256;

/// When what was put off comes back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Calendar {
    /// The last place that was given.
    last: Option<Instant>,
    /// Whether somebody else has put some off, too.
    is_told_of_more: bool,
    /// How many were delivered in a row since anything failed or was called back.
    well: u32,
    /// How many looks in a row have found nothing; none when nothing is known of any that is put off.
    in_vain: u32,
    /// Before when it is of no use to ask.
    asks_from: Option<Instant>,
}

/// How crowded it is for a message that is put off.
#[derive(Debug, Clone, Copy)]
pub(super) enum Crowd {
    /// Its lane is one of so many slow ones.
    Slow(usize),
    /// Its lane is fast and has too many.
    Fast,
}

impl Calendar {
    /// The delay of the next message that is put off, in whole seconds; not before `from`.
    pub(super) fn put_off(&mut self, from: Instant, crowd: Crowd, now: Instant) -> Duration {
        let apart = match crowd {
            Crowd::Slow(lanes) => {
                Duration::from_secs(1) * u32::try_from(lanes.max(1)).unwrap_or(u32::MAX) / RETURNS
            }
            Crowd::Fast => HARDLY,
        };
        let last = self.last.filter(|last| *last <= now + LONGEST);
        let place = last.map_or(from, |last| last.max(from)) + apart;
        self.last = Some(place);
        self.forget_looks();
        whole_seconds(place, now)
    }

    /// Whether something is still to come back.
    pub(super) fn reaches_beyond(&self, now: Instant) -> bool {
        self.is_told_of_more || self.last.is_some_and(|last| last > now)
    }

    /// One was delivered.
    pub(super) fn delivered(&mut self) {
        self.well = self.well.saturating_add(1);
    }

    /// One was delivered, and that is news: the lane was not well, or it had been put off and came by
    /// itself.
    pub(super) fn delivered_after_all(&mut self) {
        self.well = self.well.saturating_add(1).max(FEW);
    }

    /// Somebody, maybe somebody else, has put some off.
    pub(super) fn learn_of_more(&mut self) {
        self.is_told_of_more = true;
        self.forget_looks();
    }

    fn forget_looks(&mut self) {
        self.in_vain = 0;
        self.asks_from = None;
    }

    pub(super) fn failed(&mut self) {
        self.well = 0;
    }

    /// How many to call back, if any. What is called back has left a message behind that comes by
    /// its delay and finds nothing to do; there are never more of these than were delivered.
    pub(super) fn call_back(&mut self, now: Instant) -> Option<u32> {
        if self.well < FEW || !self.has_more(now) {
            return None;
        }
        Some(self.call())
    }

    /// Whether there is something to call back that does not come soon anyhow.
    fn has_more(&self, now: Instant) -> bool {
        self.reaches_beyond(now + Duration::from_secs(1))
    }

    /// Whether there may be something to ask for, now or later.
    pub(super) fn may_have_more(&self, now: Instant) -> bool {
        self.has_more(now) || (1..LOOKS).contains(&self.in_vain)
    }

    /// How many to call back of a lane that has nothing else to do.
    pub(super) fn ask(&mut self, now: Instant) -> Option<u32> {
        if !self.may_have_more(now) || self.asks_from.is_some_and(|from| now < from) {
            return None;
        }
        self.well = self.well.max(FEW);
        Some(self.call())
    }

    fn call(&mut self) -> u32 {
        // Most of them come before their places. Who is put off now is not to wait behind those.
        self.last = None;
        self.is_told_of_more = true;
        std::mem::take(&mut self.well).min(MANY)
    }

    /// Nothing more was found to be called back.
    pub(super) fn close(&mut self, now: Instant) {
        self.last = None;
        self.is_told_of_more = false;
        self.in_vain = (self.in_vain + 1).min(LOOKS);
        self.asks_from = Some(now + ASKS_EVERY * (1 << self.in_vain));
    }
}

/// How long it is until then, rounded up, and one second at least.
pub(super) fn whole_seconds(until: Instant, now: Instant) -> Duration {
    let wait = until.saturating_duration_since(now);
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
        .max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_off(calendar: &mut Calendar, count: usize, now: Instant) -> Vec<u64> {
        (0..count)
            .map(|_| calendar.put_off(now, Crowd::Slow(1), now).as_secs())
            .collect()
    }

    #[test]
    fn delays_grow_with_the_backlog_so_that_ten_a_second_come_back() {
        let now = Instant::now();
        let mut calendar = Calendar::default();
        let delays = put_off(&mut calendar, 20_000, now);
        assert_eq!((delays[0], delays[9], delays[10]), (1, 1, 2));
        assert_eq!(delays[19_999], 2_000);
        for second in 1..=2_000 {
            assert_eq!(delays.iter().filter(|delay| **delay == second).count(), 10);
        }
    }

    #[test]
    fn those_that_come_back_and_are_put_off_again_go_to_the_end_at_the_same_rate() {
        let mut now = Instant::now();
        let mut calendar = Calendar::default();
        put_off(&mut calendar, 200, now);
        for _ in 0..20 {
            now += Duration::from_secs(1);
            let again = put_off(&mut calendar, 10, now);
            assert!(
                again.iter().all(|delay| (20..=21).contains(delay)),
                "{again:?}"
            );
        }
    }

    #[test]
    fn many_slow_lanes_share_what_comes_back() {
        let now = Instant::now();
        let mut calendar = Calendar::default();
        let delays: Vec<u64> = (0..10)
            .map(|_| calendar.put_off(now, Crowd::Slow(10), now).as_secs())
            .collect();
        assert_eq!(delays, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn nothing_is_put_off_for_much_more_than_an_hour() {
        let now = Instant::now();
        let mut calendar = Calendar::default();
        let delays = put_off(&mut calendar, 1_000_000, now);
        assert_eq!(delays.iter().max(), Some(&3_601));
    }

    #[test]
    fn no_more_are_called_back_than_were_delivered_in_a_row() {
        let now = Instant::now();
        let mut calendar = Calendar::default();
        put_off(&mut calendar, 10_000, now);
        let deliver = |calendar: &mut Calendar, count| {
            for _ in 0..count {
                calendar.delivered();
            }
            calendar.call_back(now)
        };
        assert_eq!(deliver(&mut calendar, 7), None);
        assert_eq!(deliver(&mut calendar, 5), Some(12));
        assert_eq!(deliver(&mut calendar, 7), None);
        calendar.failed();
        assert_eq!(deliver(&mut calendar, 7), None);
        assert_eq!(deliver(&mut calendar, 1_000), Some(256));
        assert_eq!(put_off(&mut calendar, 1, now), [1], "not behind the others");
        calendar.close(now);
        assert_eq!(deliver(&mut calendar, 1_000), None);
    }
}
