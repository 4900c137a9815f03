use std::collections::HashSet;

use proptest::prelude::*;

use super::circuit_breaker::CircuitBreaker;
use super::*;

mod backlogs;
mod model;
mod probing;
mod shelf;

use shelf::Shelf;

/// A message with a number. The highest byte of the number counts the earlier attempts.
type Numbered = (SubscriptionId, u32);

/// The bit of messages that were read from the backlog, and the bit of those of replays among them.
const MARKED: u32 = 1 << 23;
const REPLAYED: u32 = 1 << 22;

impl Message for Numbered {
    fn attempt(&self) -> u32 {
        1 + (self.1 >> 24)
    }

    fn backlog(&self) -> Option<BacklogClass> {
        match (self.1 & MARKED != 0, self.1 & REPLAYED != 0) {
            (true, true) => Some(BacklogClass::Replay),
            (true, false) => Some(BacklogClass::Live),
            (false, _) => None,
        }
    }
}

const HANGING: SubscriptionId = SubscriptionId(1);
const HEALTHY: SubscriptionId = SubscriptionId(2);

/// The groups of a subscription queue that shares with no other.
fn alone(subscription: SubscriptionId) -> ShareGroups {
    let group = ShareGroup(subscription.0.unsigned_abs());
    ShareGroups {
        origin: group,
        organization: group,
    }
}

struct Clocked {
    lanes: Scheduler<Numbered>,
    now: Instant,
}

impl Clocked {
    fn new(slots: usize, room: usize) -> Self {
        let breaker_failures = 1_000;
        let limits = Limits {
            slots,
            room,
            breaker_failures,
            origin_rate: None,
        };
        Self {
            lanes: Scheduler::new(limits),
            now: Instant::now(),
        }
    }

    fn push(&mut self, to: SubscriptionId, numbers: std::ops::Range<u32>) {
        self.push_among(to, alone(to), numbers);
    }

    fn push_among(&mut self, to: SubscriptionId, kin: ShareGroups, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.lanes.push(to, kin, (to, number), self.now);
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn start_all(&mut self) -> Vec<(Permit, Numbered)> {
        std::iter::from_fn(|| self.lanes.next(self.now)).collect()
    }

    fn finish(&mut self, started: Vec<(Permit, Numbered)>, millis: u64) {
        self.finish_with(started, millis, Health::Healthy);
    }

    fn fail(&mut self, started: Vec<(Permit, Numbered)>, millis: u64) {
        self.finish_with(started, millis, Health::Unhealthy { asked_for: None });
    }

    fn finish_with(&mut self, started: Vec<(Permit, Numbered)>, millis: u64, verdict: Health) {
        let finish = Finish {
            took: Duration::from_millis(millis),
            verdict,
        };
        self.finish_all(started, finish);
    }

    fn finish_all(&mut self, started: Vec<(Permit, Numbered)>, finish: Finish) {
        for (ticket, _) in started {
            self.lanes.finished(ticket, Some(finish), self.now);
        }
    }
}

#[test]
fn a_receiver_that_takes_half_a_second_has_half_of_the_slots_of_an_idle_machine() {
    let mut clocked = Clocked::new(16, 64);
    clocked.push(HEALTHY, 0..30);
    for _ in 0..3 {
        let started = clocked.start_all();
        assert_eq!(started.len(), 8);
        clocked.pass(500);
        clocked.finish(started, 500);
    }
}

#[test]
fn a_slow_receiver_alone_has_half_of_the_slots_and_few_beside_others() {
    let mut clocked = Clocked::new(64, 512);
    clocked.push(HANGING, 0..100);
    let started = clocked.start_all();
    assert_eq!(started.len(), 32);
    clocked.pass(2_000);
    clocked.finish(started, 2_000);
    let started = clocked.start_all();
    assert_eq!(started.len(), 32);
    clocked.push(HEALTHY, 0..1);
    let healthy = clocked.start_all();
    assert_eq!(healthy.len(), 1);
    clocked.finish(started, 2_000);
    assert_eq!(clocked.start_all().len(), 4, "a sixteenth");
}

#[test]
fn one_fast_answer_makes_a_lane_fast() {
    let mut clocked = Clocked::new(32, 512);
    clocked.push(HANGING, 0..64);
    let started = clocked.start_all();
    clocked.push(HEALTHY, 0..1);
    let _healthy = clocked.start_all();
    clocked.finish(started, 3_000);
    let probes = clocked.start_all();
    assert_eq!(probes.len(), 2);
    let mut shelf = Shelf::default();
    shelf.put(clocked.lanes.take_excess());
    clocked.finish(probes, 5);
    let mut most = 0;
    while clocked.lanes.totals().waiting > 0 {
        shelf.serve(&mut clocked, alone);
        let started = clocked.start_all();
        most = most.max(clocked.lanes.totals().in_flight);
        let answered: Vec<_> = started.into_iter().take(1).collect();
        answered.iter().for_each(|one| shelf.done(one.1));
        clocked.finish(answered, 5);
    }
    assert!(most > 10, "{most}");
}

#[test]
fn however_many_hang_a_healthy_message_starts_at_once() {
    let mut clocked = Clocked::new(16, 256);
    let _first = {
        clocked.push(HANGING, 0..200);
        clocked.start_all()
    };
    clocked.pass(1_100);
    for hanging in 10..60 {
        clocked.push(SubscriptionId(hanging), 0..1);
        let started = clocked.start_all();
        clocked.finish(started, 3_000);
        clocked.push(SubscriptionId(hanging), 1..5);
    }
    let _hanging = clocked.start_all();
    for number in 0..100 {
        clocked.push(HEALTHY, number..number + 1);
        let started = clocked.start_all();
        assert_eq!(started.len(), 1, "message {number}");
        assert_eq!(started[0].1, (HEALTHY, number));
        clocked.finish(started, 5);
    }
}

#[test]
fn a_lane_that_becomes_slow_hands_back_what_is_too_much() {
    let mut clocked = Clocked::new(16, 512);
    clocked.push(HANGING, 0..250);
    let started = clocked.start_all();
    assert!(clocked.lanes.take_excess().is_empty());
    assert_eq!(
        clocked.lanes.next_change(),
        Some(clocked.now + Duration::from_millis(1_001))
    );
    clocked.pass(1_001);
    assert!(clocked.start_all().is_empty());
    let excess = clocked.lanes.take_excess();
    assert_eq!(excess.len(), 250 - started.len() - 32);
    assert_eq!(excess[0], (HANGING, 249), "the newest first");
}

#[test]
fn a_quick_lane_may_fill_the_room_and_one_that_takes_its_time_leaves_an_eighth_of_it() {
    let mut clocked = Clocked::new(4, 40);
    let first = |clocked: &mut Clocked, millis| {
        clocked.push(HEALTHY, 0..3);
        let started = clocked.start_all();
        clocked.finish(started, millis);
    };
    first(&mut clocked, 5);
    clocked.push(HEALTHY, 3..42);
    assert_eq!(clocked.lanes.room(), 0);
    assert!(clocked.lanes.take_excess().is_empty());
    let started = clocked.start_all();
    clocked.finish(started, 900);
    assert_eq!(clocked.lanes.room(), 5);
    assert!(!clocked.lanes.take_excess().is_empty());
}

#[test]
fn beside_others_a_lane_that_takes_its_time_has_half_of_the_room() {
    let mut clocked = Clocked::new(4, 40);
    clocked.push(HANGING, 0..35);
    assert!(clocked.lanes.take_excess().is_empty());
    clocked.push(HEALTHY, 0..1);
    let started = clocked.start_all();
    clocked.finish(started, 900);
    clocked.push(HEALTHY, 1..2);
    clocked.push(HANGING, 35..36);
    assert!(!clocked.lanes.take_excess().is_empty());
    let waiting = clocked.lanes.lanes[&HANGING].queued();
    assert_eq!(waiting, 20);
}

#[test]
fn of_many_for_one_receiver_that_meet_a_cold_dispatcher_nothing_is_excess() {
    // The default settings have these slots and this room.
    let mut clocked = Clocked::new(256, 768);
    for (backlog, takes) in [(400, 10), (768, 10), (400, 300)] {
        let mut left = backlog;
        clocked.push(HEALTHY, 0..backlog);
        while left > 0 {
            let started = clocked.start_all();
            assert!(!started.is_empty());
            left -= u32::try_from(started.len()).unwrap();
            clocked.pass(takes);
            clocked.finish(started, takes);
        }
        assert!(
            clocked.lanes.take_excess().is_empty(),
            "{backlog}, {takes} ms"
        );
        assert!(clocked.lanes.lanes.is_empty(), "it is as cold as before");
    }
}

#[test]
fn a_lane_of_which_nothing_is_here_takes_no_place_and_slow_ones_a_bounded_one() {
    let mut clocked = Clocked::new(8, 64);
    for number in 0..20_000 {
        clocked.push(SubscriptionId(number), 0..1);
        let started = clocked.start_all();
        assert_eq!(started.len(), 1);
        clocked.finish(started, 5);
    }
    assert!(clocked.lanes.lanes.is_empty());
    assert_eq!(clocked.lanes.shares.groups_known(), 0);
    for number in 0..20_000 {
        clocked.push(SubscriptionId(number), 0..1);
        let started = clocked.start_all();
        clocked.finish(started, 5_000);
    }
    assert!(clocked.lanes.lanes.len() <= REMEMBERED + 1);
    assert!(clocked.lanes.shares.groups_known() <= 2 * (REMEMBERED + 1));
}

/// Fifty subscription queues to one host. The first request to it hangs.
fn fifty_behind_one_host(clocked: &mut Clocked, organization: u64) -> Vec<(Permit, Numbered)> {
    let kin = ShareGroups {
        origin: ShareGroup(1),
        organization: ShareGroup(organization),
    };
    for hanging in 100..150 {
        clocked.push_among(SubscriptionId(hanging), kin, 0..4);
    }
    clocked.start_all()
}

#[test]
fn fifty_lanes_to_one_host_leave_a_third_of_the_slots_before_anybody_knows_that_they_hang() {
    let mut clocked = Clocked::new(64, 512);
    let hanging = fifty_behind_one_host(&mut clocked, 1);
    assert_eq!(hanging.len(), 43, "it is alone");
    let sibling = ShareGroups {
        origin: ShareGroup(2),
        organization: ShareGroup(1),
    };
    clocked.push_among(HEALTHY, sibling, 0..4);
    assert_eq!(clocked.start_all().len(), 4, "of the same organization");
}

#[test]
fn a_host_gets_an_eighth_of_the_slots_before_its_first_answer_while_others_are_there() {
    let mut clocked = Clocked::new(64, 512);
    clocked.push(HEALTHY, 0..1);
    let _healthy = clocked.start_all();
    let hanging = fifty_behind_one_host(&mut clocked, 1);
    assert_eq!(hanging.len(), 8);
    clocked.finish(hanging.into_iter().take(1).collect(), 5);
    assert_eq!(clocked.start_all().len(), 8, "an answer vouches for all");
}

#[test]
fn a_host_that_hangs_takes_no_more_once_that_is_known() {
    let mut clocked = Clocked::new(64, 512);
    let mut hanging = fifty_behind_one_host(&mut clocked, 1);
    let mut most = hanging.len();
    for _ in 0..20 {
        clocked.pass(3_000);
        clocked.fail(std::mem::take(&mut hanging), 3_000);
        fifty_behind_one_host(&mut clocked, 1);
        hanging = fifty_behind_one_host(&mut clocked, 1);
        most = most.max(clocked.lanes.totals().in_flight);
        clocked.push(HEALTHY, 0..4);
        let healthy = clocked.start_all();
        let is_healthy = |one: &&(Permit, Numbered)| one.1.0 == HEALTHY;
        assert_eq!(healthy.iter().filter(is_healthy).count(), 4);
        let (healthy, more): (Vec<_>, Vec<_>) =
            healthy.into_iter().partition(|one| is_healthy(&one));
        clocked.finish(healthy, 5);
        hanging.extend(more);
    }
    assert!(most <= 43, "{most}");
}

#[test]
fn an_organization_leaves_an_eighth_of_the_slots_whatever_it_calls() {
    let mut clocked = Clocked::new(64, 512);
    for hanging in 100..200 {
        let kin = ShareGroups {
            origin: ShareGroup(u64::try_from(hanging).unwrap()),
            organization: ShareGroup(1),
        };
        clocked.push_among(SubscriptionId(hanging), kin, 0..2);
    }
    assert_eq!(clocked.start_all().len(), 56);
    clocked.push(HEALTHY, 0..4);
    assert_eq!(clocked.start_all().len(), 4);
}

#[test]
fn a_receiver_that_fails_in_a_row_is_left_alone_but_for_one_probe() {
    let mut clocked = Clocked::new(16, 256);
    clocked.lanes.breaker_failures = 5;
    clocked.push(HANGING, 0..200);
    let started = clocked.start_all();
    clocked.fail(started, 5);
    assert_eq!(clocked.lanes.totals().open, 1);
    assert_eq!(clocked.lanes.totals().waiting, 0, "a probe takes no room");
    assert_eq!(clocked.lanes.take_excess().len(), 191);
    clocked.push(HANGING, 200..210);
    assert!(clocked.start_all().is_empty());
    assert_eq!(clocked.lanes.take_excess().len(), 10);

    clocked.pass(1_000);
    clocked.push(HANGING, 210..220);
    let probe = clocked.start_all();
    assert_eq!(probe.len(), 1);
    clocked.push(HANGING, 220..230);
    assert!(clocked.start_all().is_empty(), "one probe at a time");
    clocked.finish(probe, 5);
    assert_eq!(clocked.start_all().len(), 1, "the one that was kept");
    clocked.lanes.take_excess();
    clocked.push(HANGING, 230..240);
    assert_eq!(clocked.lanes.take_excess().len(), 10, "behind the backlog");
}

#[test]
fn a_breaker_lets_its_probe_start_when_its_wait_is_over() {
    let mut clocked = Clocked::new(16, 256);
    clocked.lanes.breaker_failures = 1;
    clocked.push(HANGING, 0..1);
    let mut probe = clocked.start_all();
    for (number, wait) in (1..).zip([1, 2, 4, 8, 16, 32, 60, 60]) {
        assert_eq!(probe.len(), 1);
        clocked.fail(probe, 5);
        let change = BreakerChange {
            subscription: HANGING,
            wait: Some(Duration::from_secs(wait)),
        };
        let changes = clocked.lanes.take_breaker_changes();
        assert_eq!(changes.len(), usize::from(number < 8), "{wait}");
        assert!(changes.iter().all(|one| *one == change));
        clocked.push(HANGING, number..number + 1);
        let at = clocked.now + Duration::from_secs(wait);
        assert_eq!(clocked.lanes.next_change(), Some(at));
        clocked.pass(wait * 1_000 - 1);
        assert!(clocked.start_all().is_empty());
        clocked.pass(1);
        probe = clocked.start_all();
    }
    clocked.finish(probe, 5);
    let closed = BreakerChange {
        subscription: HANGING,
        wait: None,
    };
    assert_eq!(clocked.lanes.take_breaker_changes(), [closed]);
}

#[test]
fn what_somebody_waits_for_comes_before_all_others_and_is_the_probe_of_an_open_breaker() {
    let mut clocked = Clocked::new(16, 256);
    clocked.lanes.breaker_failures = 1;
    let first = |clocked: &mut Clocked, number| {
        let to = HANGING;
        clocked.lanes.push_first(to, alone(to), (to, number));
    };
    clocked.push(HANGING, 0..1);
    first(&mut clocked, 90);
    let started = clocked.start_all();
    assert_eq!(started[0].1, (HANGING, 90));
    clocked.fail(started, 5);
    first(&mut clocked, 92);
    first(&mut clocked, 93);
    let probe = clocked.start_all();
    assert_eq!(probe.len(), 1);
    assert_eq!(probe[0].1, (HANGING, 92), "before its time");
    assert!(clocked.start_all().is_empty(), "behind the other probe");
    clocked.finish(probe, 5);
    assert_eq!(clocked.start_all().len(), 1);
}

#[test]
fn an_origin_is_called_no_more_often_than_its_rate() {
    let mut clocked = Clocked::new(64, 512);
    let limits = Limits {
        slots: 64,
        room: 512,
        breaker_failures: 1_000,
        origin_rate: Some(Rate::new(10, Duration::from_secs(1))),
    };
    clocked.lanes = Scheduler::new(limits);
    let kin = |organization| ShareGroups {
        origin: ShareGroup(1),
        organization: ShareGroup(organization),
    };
    for number in 0..40 {
        let to = SubscriptionId(100 + i64::from(number));
        clocked.push_among(to, kin(u64::from(number)), number..number + 1);
    }
    clocked.push(HEALTHY, 0..20);
    let (mut limited, mut healthy) = (0, 0);
    for millis in 0..2_000 {
        let started = clocked.start_all();
        let others = started.iter().filter(|one| one.1.0 == HEALTHY).count();
        (limited, healthy) = (limited + started.len() - others, healthy + others);
        assert!(limited <= 10 + millis / 100, "{limited} after {millis} ms");
        clocked.finish(started, 5);
        if let Some(next) = clocked.lanes.next_change() {
            assert!(next <= clocked.now + Duration::from_millis(100));
        }
        clocked.pass(1);
    }
    assert!(limited >= 29, "{limited}");
    assert!(healthy >= 10, "{healthy}: another origin has its own rate");
}

#[derive(Debug, Clone)]
enum Step {
    Push(i64),
    PushFirst(i64),
    Start,
    Finish(usize, u64, Health),
    Pass(u64),
    Read,
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![
        2 => Just(Health::Healthy),
        2 => Just(Health::Unhealthy { asked_for: None }),
        1 => Just(Health::Unknown),
    ];
    prop_oneof![
        8 => (0..12i64).prop_map(Step::Push),
        1 => (0..12i64).prop_map(Step::PushFirst),
        6 => Just(Step::Start),
        6 => (any::<usize>(), prop_oneof![Just(5u64), Just(500), Just(3_000)], verdict)
            .prop_map(|(which, took, verdict)| Step::Finish(which, took, verdict)),
        2 => (0..2_000u64).prop_map(Step::Pass),
        2 => Just(Step::Read),
    ]
}

/// Twelve subscription queues to three hosts, of two organizations.
fn among(to: i64) -> ShareGroups {
    let to = to.unsigned_abs();
    ShareGroups {
        origin: ShareGroup(to % 3),
        organization: ShareGroup(to % 2),
    }
}

proptest! {
    #[test]
    fn shares_hold_and_no_message_is_lost(
        slots in 1usize..40,
        room in 1usize..80,
        steps in proptest::collection::vec(step(), 0..600),
    ) {
        let mut clocked = Clocked::new(slots, room);
        clocked.lanes.breaker_failures = 3;
        let mut flying: Vec<(Permit, Numbered)> = Vec::new();
        let (mut pushed, mut started) = (0u32, 0u32);
        let mut shelf = Shelf::default();
        let mut firsts = HashSet::new();
        for step in steps {
            match step {
                Step::Push(to) => {
                    clocked.push_among(SubscriptionId(to), among(to), pushed..pushed + 1);
                    pushed += 1;
                }
                Step::PushFirst(to) => {
                    let message = (SubscriptionId(to), pushed);
                    clocked.lanes.push_first(message.0, among(to), message);
                    firsts.insert(pushed);
                    pushed += 1;
                }
                Step::Pass(millis) => clocked.pass(millis),
                Step::Read => {
                    shelf.serve(&mut clocked, |to| among(to.0));
                }
                Step::Finish(which, took, verdict) if !flying.is_empty() => {
                    let one = flying.swap_remove(which % flying.len());
                    shelf.done(one.1);
                    clocked.finish_with(vec![one], took, verdict);
                }
                Step::Finish(..) => {}
                Step::Start => {
                    let Some((ticket, message)) = clocked.lanes.next(clocked.now) else { continue };
                    started += 1;
                    let (to, _) = message;
                    flying.push((ticket, message));
                    let lanes = &clocked.lanes;
                    if lanes.lanes[&to].is_slow() {
                        prop_assert!(lanes.shares.all.slow_in_flight <= lanes.shares.half());
                    }
                    if matches!(lanes.lanes[&to].breaker, CircuitBreaker::Open { .. }) {
                        prop_assert!(false, "an open breaker let one through");
                    }
                }
            }
            shelf.put(clocked.lanes.take_excess());
            let lanes = &clocked.lanes;
            prop_assert!(flying.len() <= slots);
            prop_assert_eq!(lanes.flights.len(), flying.len());
            let first: usize = lanes.lanes.values().map(|lane| lane.first.len()).sum();
            // The probe that a breaker keeps takes room from the moment at which it may start.
            prop_assert!(lanes.shares.all.waiting <= room + first + lanes.lanes.len());
            let waiting: usize = lanes.lanes.values().map(SubscriptionQueue::waiting).sum();
            let waiting = u32::try_from(waiting).unwrap();
            prop_assert_eq!(pushed, started + shelf.waiting() + waiting);
            let mut recounted = Bulkhead::new(slots, room, None);
            for lane in lanes.lanes.values() {
                recounted.add(lane.kin, lane.totals());
            }
            prop_assert_eq!(recounted.all, lanes.shares.all);
            prop_assert_eq!(lanes.turns.len(), lanes.lanes.values().filter(|lane| lane.turn().is_some()).count());
        }
        // Each queue gets a turn once slots are given back, and each backlog ends.
        for _ in 0..3_000 {
            let more = clocked.start_all();
            for one in flying.drain(..).chain(more) {
                shelf.done(one.1);
                clocked.finish(vec![one], 5);
            }
            shelf.put(clocked.lanes.take_excess());
            shelf.serve(&mut clocked, |to| among(to.0));
            let is_empty = |lane: &SubscriptionQueue<_>| lane.waiting() == 0 && !lane.has_live_backlog();
            let is_over = shelf.waiting() == 0 && clocked.lanes.lanes.values().all(is_empty);
            if is_over {
                return Ok(());
            }
            clocked.pass(100);
        }
        prop_assert!(false, "something waits for ever");
    }
}
