use std::collections::HashSet;

use proptest::prelude::*;

use super::circuit_breaker::CircuitBreaker;
use super::*;

mod backlogs;
mod model;
mod probing;
mod stored_backlog;

use stored_backlog::StoredBacklog;

/// A message with a number. The highest byte of the number counts the earlier attempts.
type Numbered = (SubscriptionId, u32);

/// The bit of messages that were read from the backlog, and the bit of those of replays among them.
const FROM_BACKLOG: u32 = 1 << 23;
const REPLAYED: u32 = 1 << 22;

impl Message for Numbered {
    fn attempt(&self) -> u32 {
        1 + (self.1 >> 24)
    }

    fn backlog(&self) -> Option<BacklogClass> {
        match (self.1 & FROM_BACKLOG != 0, self.1 & REPLAYED != 0) {
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

struct ClockedScheduler {
    scheduler: Scheduler<Numbered>,
    now: Instant,
}

impl ClockedScheduler {
    fn new(slots: usize, room: usize) -> Self {
        let breaker_failures = 1_000;
        let limits = Limits {
            slots,
            room,
            breaker_failures,
            origin_rate: None,
        };
        Self {
            scheduler: Scheduler::new(limits),
            now: Instant::now(),
        }
    }

    fn push(&mut self, to: SubscriptionId, numbers: std::ops::Range<u32>) {
        self.push_among(to, alone(to), numbers);
    }

    fn push_among(
        &mut self,
        to: SubscriptionId,
        groups: ShareGroups,
        numbers: std::ops::Range<u32>,
    ) {
        for number in numbers {
            self.scheduler.push(to, groups, (to, number), self.now);
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn start_all(&mut self) -> Vec<(Permit, Numbered)> {
        std::iter::from_fn(|| self.scheduler.next(self.now)).collect()
    }

    fn finish(&mut self, started: Vec<(Permit, Numbered)>, millis: u64) {
        self.finish_with(started, millis, ReceiverHealth::Healthy);
    }

    fn fail(&mut self, started: Vec<(Permit, Numbered)>, millis: u64) {
        self.finish_with(
            started,
            millis,
            ReceiverHealth::Unhealthy { retry_after: None },
        );
    }

    fn finish_with(
        &mut self,
        started: Vec<(Permit, Numbered)>,
        millis: u64,
        health: ReceiverHealth,
    ) {
        let finish = Finish {
            took: Duration::from_millis(millis),
            health,
        };
        self.finish_all(started, finish);
    }

    fn finish_all(&mut self, started: Vec<(Permit, Numbered)>, finish: Finish) {
        for (permit, _) in started {
            self.scheduler.finished(permit, Some(finish), self.now);
        }
    }
}

#[test]
fn a_receiver_of_half_a_second_gets_half_of_the_slots_when_no_other_queue_is_active() {
    let mut clocked = ClockedScheduler::new(16, 64);
    clocked.push(HEALTHY, 0..30);
    for _ in 0..3 {
        let started = clocked.start_all();
        assert_eq!(started.len(), 8);
        clocked.pass(500);
        clocked.finish(started, 500);
    }
}

#[test]
fn a_slow_receiver_gets_half_of_the_slots_alone_and_a_sixteenth_beside_others() {
    let mut clocked = ClockedScheduler::new(64, 512);
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
fn one_fast_response_makes_a_queue_fast() {
    let mut clocked = ClockedScheduler::new(32, 512);
    clocked.push(HANGING, 0..64);
    let started = clocked.start_all();
    clocked.push(HEALTHY, 0..1);
    let _healthy = clocked.start_all();
    clocked.finish(started, 3_000);
    let probes = clocked.start_all();
    assert_eq!(probes.len(), 2);
    let mut stored = StoredBacklog::default();
    stored.put(clocked.scheduler.take_excess());
    clocked.finish(probes, 5);
    let mut most = 0;
    while clocked.scheduler.totals().waiting > 0 {
        stored.serve(&mut clocked, alone);
        let started = clocked.start_all();
        most = most.max(clocked.scheduler.totals().in_flight);
        let answered: Vec<_> = started.into_iter().take(1).collect();
        answered.iter().for_each(|one| stored.done(one.1));
        clocked.finish(answered, 5);
    }
    assert!(most > 10, "{most}");
}

#[test]
fn a_healthy_receiver_starts_at_once_beside_any_number_of_hanging_ones() {
    let mut clocked = ClockedScheduler::new(16, 256);
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
fn a_queue_that_becomes_slow_hands_its_excess_back() {
    let mut clocked = ClockedScheduler::new(16, 512);
    clocked.push(HANGING, 0..250);
    let started = clocked.start_all();
    assert!(clocked.scheduler.take_excess().is_empty());
    assert_eq!(
        clocked.scheduler.next_change(),
        Some(clocked.now + Duration::from_millis(1_001))
    );
    clocked.pass(1_001);
    assert!(clocked.start_all().is_empty());
    let excess = clocked.scheduler.take_excess();
    assert_eq!(excess.len(), 250 - started.len() - 32);
    assert_eq!(excess[0], (HANGING, 249), "the newest first");
}

#[test]
fn a_quick_queue_may_fill_the_room_and_a_slower_one_leaves_an_eighth_free() {
    let mut clocked = ClockedScheduler::new(4, 40);
    let first = |clocked: &mut ClockedScheduler, millis| {
        clocked.push(HEALTHY, 0..3);
        let started = clocked.start_all();
        clocked.finish(started, millis);
    };
    first(&mut clocked, 5);
    clocked.push(HEALTHY, 3..42);
    assert_eq!(clocked.scheduler.room(), 0);
    assert!(clocked.scheduler.take_excess().is_empty());
    let started = clocked.start_all();
    clocked.finish(started, 900);
    assert_eq!(clocked.scheduler.room(), 5);
    assert!(!clocked.scheduler.take_excess().is_empty());
}

#[test]
fn a_queue_that_is_not_quick_gets_half_of_the_room_beside_others() {
    let mut clocked = ClockedScheduler::new(4, 40);
    clocked.push(HANGING, 0..35);
    assert!(clocked.scheduler.take_excess().is_empty());
    clocked.push(HEALTHY, 0..1);
    let started = clocked.start_all();
    clocked.finish(started, 900);
    clocked.push(HEALTHY, 1..2);
    clocked.push(HANGING, 35..36);
    assert!(!clocked.scheduler.take_excess().is_empty());
    let waiting = clocked.scheduler.queues[&HANGING].queued();
    assert_eq!(waiting, 20);
}

#[test]
fn a_burst_to_one_new_receiver_creates_no_excess() {
    // The default settings have these slots and this room.
    let mut clocked = ClockedScheduler::new(256, 768);
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
            clocked.scheduler.take_excess().is_empty(),
            "{backlog}, {takes} ms"
        );
        assert!(
            clocked.scheduler.queues.is_empty(),
            "it is as cold as before"
        );
    }
}

#[test]
fn idle_queues_are_removed_and_the_number_of_slow_ones_is_bounded() {
    let mut clocked = ClockedScheduler::new(8, 64);
    for number in 0..20_000 {
        clocked.push(SubscriptionId(number), 0..1);
        let started = clocked.start_all();
        assert_eq!(started.len(), 1);
        clocked.finish(started, 5);
    }
    assert!(clocked.scheduler.queues.is_empty());
    assert_eq!(clocked.scheduler.bulkhead.groups_known(), 0);
    for number in 0..20_000 {
        clocked.push(SubscriptionId(number), 0..1);
        let started = clocked.start_all();
        clocked.finish(started, 5_000);
    }
    assert!(clocked.scheduler.queues.len() <= MAX_IDLE_QUEUES + 1);
    assert!(clocked.scheduler.bulkhead.groups_known() <= 2 * (MAX_IDLE_QUEUES + 1));
}

/// Fifty subscription queues to one host. The first request to it hangs.
fn fifty_behind_one_host(
    clocked: &mut ClockedScheduler,
    organization: u64,
) -> Vec<(Permit, Numbered)> {
    let groups = ShareGroups {
        origin: ShareGroup(1),
        organization: ShareGroup(organization),
    };
    for hanging in 100..150 {
        clocked.push_among(SubscriptionId(hanging), groups, 0..4);
    }
    clocked.start_all()
}

#[test]
fn fifty_queues_to_one_hanging_host_leave_a_third_of_the_slots_free() {
    let mut clocked = ClockedScheduler::new(64, 512);
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
fn a_host_gets_an_eighth_of_the_slots_before_its_first_response_beside_others() {
    let mut clocked = ClockedScheduler::new(64, 512);
    clocked.push(HEALTHY, 0..1);
    let _healthy = clocked.start_all();
    let hanging = fifty_behind_one_host(&mut clocked, 1);
    assert_eq!(hanging.len(), 8);
    clocked.finish(hanging.into_iter().take(1).collect(), 5);
    assert_eq!(
        clocked.start_all().len(),
        8,
        "a response of one counts for all"
    );
}

#[test]
fn a_host_that_is_known_to_hang_gets_no_further_slots() {
    let mut clocked = ClockedScheduler::new(64, 512);
    let mut hanging = fifty_behind_one_host(&mut clocked, 1);
    let mut most = hanging.len();
    for _ in 0..20 {
        clocked.pass(3_000);
        clocked.fail(std::mem::take(&mut hanging), 3_000);
        fifty_behind_one_host(&mut clocked, 1);
        hanging = fifty_behind_one_host(&mut clocked, 1);
        most = most.max(clocked.scheduler.totals().in_flight);
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
fn an_organization_leaves_an_eighth_of_the_slots_free() {
    let mut clocked = ClockedScheduler::new(64, 512);
    for hanging in 100..200 {
        let groups = ShareGroups {
            origin: ShareGroup(u64::try_from(hanging).unwrap()),
            organization: ShareGroup(1),
        };
        clocked.push_among(SubscriptionId(hanging), groups, 0..2);
    }
    assert_eq!(clocked.start_all().len(), 56);
    clocked.push(HEALTHY, 0..4);
    assert_eq!(clocked.start_all().len(), 4);
}

#[test]
fn consecutive_failures_open_the_breaker_and_let_one_probe_through() {
    let mut clocked = ClockedScheduler::new(16, 256);
    clocked.scheduler.breaker_failures = 5;
    clocked.push(HANGING, 0..200);
    let started = clocked.start_all();
    clocked.fail(started, 5);
    assert_eq!(clocked.scheduler.totals().open, 1);
    assert_eq!(
        clocked.scheduler.totals().waiting,
        0,
        "a probe takes no room"
    );
    assert_eq!(clocked.scheduler.take_excess().len(), 191);
    clocked.push(HANGING, 200..210);
    assert!(clocked.start_all().is_empty());
    assert_eq!(clocked.scheduler.take_excess().len(), 10);

    clocked.pass(1_000);
    clocked.push(HANGING, 210..220);
    let probe = clocked.start_all();
    assert_eq!(probe.len(), 1);
    clocked.push(HANGING, 220..230);
    assert!(clocked.start_all().is_empty(), "one probe at a time");
    clocked.finish(probe, 5);
    assert_eq!(clocked.start_all().len(), 1, "the one that was kept");
    clocked.scheduler.take_excess();
    clocked.push(HANGING, 230..240);
    assert_eq!(
        clocked.scheduler.take_excess().len(),
        10,
        "behind the backlog"
    );
}

#[test]
fn a_probe_starts_when_the_wait_of_its_breaker_ends() {
    let mut clocked = ClockedScheduler::new(16, 256);
    clocked.scheduler.breaker_failures = 1;
    clocked.push(HANGING, 0..1);
    let mut probe = clocked.start_all();
    for (number, wait) in (1..).zip([1, 2, 4, 8, 16, 32, 60, 60]) {
        assert_eq!(probe.len(), 1);
        clocked.fail(probe, 5);
        let change = BreakerChange {
            subscription: HANGING,
            wait: Some(Duration::from_secs(wait)),
        };
        let changes = clocked.scheduler.take_breaker_changes();
        assert_eq!(changes.len(), usize::from(number < 8), "{wait}");
        assert!(changes.iter().all(|one| *one == change));
        clocked.push(HANGING, number..number + 1);
        let at = clocked.now + Duration::from_secs(wait);
        assert_eq!(clocked.scheduler.next_change(), Some(at));
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
    assert_eq!(clocked.scheduler.take_breaker_changes(), [closed]);
}

#[test]
fn a_test_starts_before_all_other_messages_and_is_the_probe_of_an_open_breaker() {
    let mut clocked = ClockedScheduler::new(16, 256);
    clocked.scheduler.breaker_failures = 1;
    let first = |clocked: &mut ClockedScheduler, number| {
        let to = HANGING;
        clocked.scheduler.push_test(to, alone(to), (to, number));
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
fn requests_to_an_origin_stay_within_its_rate_limit() {
    let mut clocked = ClockedScheduler::new(64, 512);
    let limits = Limits {
        slots: 64,
        room: 512,
        breaker_failures: 1_000,
        origin_rate: Some(Rate::new(10, Duration::from_secs(1))),
    };
    clocked.scheduler = Scheduler::new(limits);
    let groups = |organization| ShareGroups {
        origin: ShareGroup(1),
        organization: ShareGroup(organization),
    };
    for number in 0..40 {
        let to = SubscriptionId(100 + i64::from(number));
        clocked.push_among(to, groups(u64::from(number)), number..number + 1);
    }
    clocked.push(HEALTHY, 0..20);
    let (mut limited, mut healthy) = (0, 0);
    for millis in 0..2_000 {
        let started = clocked.start_all();
        let others = started.iter().filter(|one| one.1.0 == HEALTHY).count();
        (limited, healthy) = (limited + started.len() - others, healthy + others);
        assert!(limited <= 10 + millis / 100, "{limited} after {millis} ms");
        clocked.finish(started, 5);
        if let Some(next) = clocked.scheduler.next_change() {
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
    PushTest(i64),
    Start,
    Finish(usize, u64, ReceiverHealth),
    Pass(u64),
    Read,
}

fn step() -> impl Strategy<Value = Step> {
    let health = prop_oneof![
        2 => Just(ReceiverHealth::Healthy),
        2 => Just(ReceiverHealth::Unhealthy { retry_after: None }),
        1 => Just(ReceiverHealth::Unknown),
    ];
    prop_oneof![
        8 => (0..12i64).prop_map(Step::Push),
        1 => (0..12i64).prop_map(Step::PushTest),
        6 => Just(Step::Start),
        6 => (any::<usize>(), prop_oneof![Just(5u64), Just(500), Just(3_000)], health)
            .prop_map(|(which, took, health)| Step::Finish(which, took, health)),
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
    fn bulkheads_hold_and_no_message_is_lost(
        slots in 1usize..40,
        room in 1usize..80,
        steps in proptest::collection::vec(step(), 0..600),
    ) {
        let mut clocked = ClockedScheduler::new(slots, room);
        clocked.scheduler.breaker_failures = 3;
        let mut in_flight: Vec<(Permit, Numbered)> = Vec::new();
        let (mut pushed, mut started) = (0u32, 0u32);
        let mut stored = StoredBacklog::default();
        let mut tests = HashSet::new();
        for step in steps {
            match step {
                Step::Push(to) => {
                    clocked.push_among(SubscriptionId(to), among(to), pushed..pushed + 1);
                    pushed += 1;
                }
                Step::PushTest(to) => {
                    let message = (SubscriptionId(to), pushed);
                    clocked.scheduler.push_test(message.0, among(to), message);
                    tests.insert(pushed);
                    pushed += 1;
                }
                Step::Pass(millis) => clocked.pass(millis),
                Step::Read => {
                    stored.serve(&mut clocked, |to| among(to.0));
                }
                Step::Finish(which, took, health) if !in_flight.is_empty() => {
                    let one = in_flight.swap_remove(which % in_flight.len());
                    stored.done(one.1);
                    clocked.finish_with(vec![one], took, health);
                }
                Step::Finish(..) => {}
                Step::Start => {
                    if let Some((permit, message)) = clocked.scheduler.next(clocked.now) {
                        started += 1;
                        let (to, _) = message;
                        in_flight.push((permit, message));
                        let scheduler = &clocked.scheduler;
                        if scheduler.queues[&to].is_slow() {
                            prop_assert!(scheduler.bulkhead.all.slow_in_flight <= scheduler.bulkhead.slow_slots());
                        }
                        if matches!(scheduler.queues[&to].breaker, CircuitBreaker::Open { .. }) {
                            prop_assert!(false, "an open breaker let one through");
                        }
                    }
                }
            }
            stored.put(clocked.scheduler.take_excess());
            let scheduler = &clocked.scheduler;
            prop_assert!(in_flight.len() <= slots);
            prop_assert_eq!(scheduler.requests.len(), in_flight.len());
            let first: usize = scheduler.queues.values().map(|queue| queue.tests.len()).sum();
            // The probe that a breaker keeps takes room from the moment at which it may start.
            prop_assert!(scheduler.bulkhead.all.waiting <= room + first + scheduler.queues.len());
            let waiting: usize = scheduler.queues.values().map(SubscriptionQueue::waiting).sum();
            let waiting = u32::try_from(waiting).unwrap();
            prop_assert_eq!(pushed, started + stored.waiting() + waiting);
            let mut recounted = Bulkhead::new(slots, room, None);
            for queue in scheduler.queues.values() {
                recounted.add(queue.groups, queue.totals());
            }
            prop_assert_eq!(recounted.all, scheduler.bulkhead.all);
            prop_assert_eq!(scheduler.round_robin.len(), scheduler.queues.values().filter(|queue| queue.waiting_speed().is_some()).count());
        }
        // Each queue gets a turn once slots are given back, and each backlog ends.
        for _ in 0..3_000 {
            let more = clocked.start_all();
            for one in in_flight.drain(..).chain(more) {
                stored.done(one.1);
                clocked.finish(vec![one], 5);
            }
            stored.put(clocked.scheduler.take_excess());
            stored.serve(&mut clocked, |to| among(to.0));
            let is_empty = |queue: &SubscriptionQueue<_>| queue.waiting() == 0 && !queue.has_live_backlog();
            let is_over = stored.waiting() == 0 && clocked.scheduler.queues.values().all(is_empty);
            if is_over {
                return Ok(());
            }
            clocked.pass(100);
        }
        prop_assert!(false, "something waits for ever");
    }
}
