use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::breaker::Breaker;
use super::*;

mod model;
mod probing;

/// With a number, whose highest byte counts the attempts before it.
type Numbered = (SubscriptionId, u32);

impl Message for Numbered {
    fn attempt(&self) -> u32 {
        1 + (self.1 >> 24)
    }
}

const HANGING: SubscriptionId = SubscriptionId(1);
const HEALTHY: SubscriptionId = SubscriptionId(2);

/// A lane that shares with nobody.
fn alone(subscription: SubscriptionId) -> Kin {
    let group = Group(subscription.0.unsigned_abs());
    Kin {
        origin: group,
        organization: group,
    }
}

struct Clocked {
    lanes: Lanes<Numbered>,
    now: Instant,
}

impl Clocked {
    fn new(slots: usize, room: usize) -> Self {
        let breaker_failures = 1_000;
        let limits = Limits {
            slots,
            room,
            breaker_failures,
        };
        Self {
            lanes: Lanes::new(limits),
            now: Instant::now(),
        }
    }

    fn push(&mut self, to: SubscriptionId, numbers: std::ops::Range<u32>) {
        self.push_among(to, alone(to), numbers);
    }

    fn push_among(&mut self, to: SubscriptionId, kin: Kin, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.lanes.push(to, kin, (to, number), self.now);
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn start_all(&mut self) -> Vec<(Ticket, Numbered)> {
        std::iter::from_fn(|| self.lanes.next(self.now)).collect()
    }

    fn finish(&mut self, started: Vec<(Ticket, Numbered)>, millis: u64) {
        self.finish_with(started, millis, Verdict::Well);
    }

    fn fail(&mut self, started: Vec<(Ticket, Numbered)>, millis: u64) {
        self.finish_with(started, millis, Verdict::Ill { asked_for: None });
    }

    fn finish_with(&mut self, started: Vec<(Ticket, Numbered)>, millis: u64, verdict: Verdict) {
        let finish = Finish {
            took: Duration::from_millis(millis),
            verdict,
            was_parked: false,
        };
        self.finish_all(started, finish);
    }

    fn finish_all(&mut self, started: Vec<(Ticket, Numbered)>, finish: Finish) {
        for (ticket, _) in started {
            self.lanes.finished(ticket, Some(finish), self.now);
        }
    }

    /// Delivers one and says what is called back.
    fn deliver(&mut self, to: SubscriptionId, was_parked: bool) -> Vec<(SubscriptionId, u32)> {
        self.push(to, 0..1);
        let started = self.start_all();
        let finish = Finish {
            took: Duration::from_millis(5),
            verdict: Verdict::Well,
            was_parked,
        };
        self.finish_all(started, finish);
        self.lanes.take_called_back()
    }

    /// In which of the next seconds somebody looks for what was put off, when nothing is found.
    fn looks_in_vain(&mut self, seconds: u64) -> Vec<u64> {
        let mut looks = Vec::new();
        for second in 1..=seconds {
            self.pass(1_000);
            self.start_all();
            for (subscription, _) in self.lanes.take_called_back() {
                looks.push(second);
                self.lanes.all_are_back(subscription, self.now);
            }
        }
        looks
    }

    fn delays(&mut self) -> Vec<u64> {
        let excess = self.lanes.take_excess();
        excess.iter().map(|one| one.delay.as_secs()).collect()
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
    clocked.finish(probes, 5);
    clocked.push(HANGING, 64..96);
    let mut most = 0;
    while clocked.lanes.totals().waiting > 0 {
        let started = clocked.start_all();
        most = most.max(clocked.lanes.totals().in_flight);
        clocked.finish(started.into_iter().take(1).collect(), 5);
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
fn a_lane_that_becomes_slow_hands_back_what_is_too_much_for_longer_and_longer() {
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
    assert_eq!(excess[0].message, (HANGING, 249), "the newest first");
    let delays: Vec<u64> = excess.iter().map(|one| one.delay.as_secs()).collect();
    assert!(delays.is_sorted());
    assert_eq!(
        (delays[0], delays[99], delays[100], delays[209]),
        (5, 14, 15, 25)
    );
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
    let waiting = clocked.lanes.lanes[&HANGING].waiting.len();
    assert_eq!(waiting, 20);
}

#[test]
fn nothing_is_put_off_of_a_backlog_that_meets_a_cold_dispatcher_alone() {
    // The slots and the room of the default settings.
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

/// Fifty lanes to one host, whose first request hangs.
fn fifty_behind_one_host(clocked: &mut Clocked, organization: u64) -> Vec<(Ticket, Numbered)> {
    let kin = Kin {
        origin: Group(1),
        organization: Group(organization),
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
    let sibling = Kin {
        origin: Group(2),
        organization: Group(1),
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
        let is_healthy = |one: &&(Ticket, Numbered)| one.1.0 == HEALTHY;
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
        let kin = Kin {
            origin: Group(u64::try_from(hanging).unwrap()),
            organization: Group(1),
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
    assert_eq!(clocked.lanes.totals().waiting, 0, "all of it is put off");
    assert_eq!(clocked.delays().len(), 192);
    clocked.push(HANGING, 200..210);
    assert!(clocked.start_all().is_empty());
    assert_eq!(clocked.delays().len(), 10);

    clocked.pass(1_000);
    clocked.push(HANGING, 210..220);
    let probe = clocked.start_all();
    assert_eq!(probe.len(), 1);
    clocked.push(HANGING, 220..230);
    assert!(clocked.start_all().is_empty(), "one probe at a time");
    clocked.finish(probe, 5);
    clocked.push(HANGING, 230..240);
    assert_eq!(clocked.start_all().len(), 8, "a success closes it at once");
}

#[test]
fn what_is_put_off_by_a_breaker_comes_back_when_that_lets_a_probe_through() {
    let mut clocked = Clocked::new(16, 256);
    clocked.lanes.breaker_failures = 1;
    for wait in [1, 2, 4, 8] {
        clocked.push(HANGING, 0..1);
        let probe = clocked.start_all();
        assert_eq!(probe.len(), 1);
        clocked.fail(probe, 5);
        clocked.push(HANGING, 0..2);
        // Where the calendar reaches beyond it, by a second.
        assert!(
            clocked
                .delays()
                .iter()
                .all(|delay| (wait..=wait + 1).contains(delay))
        );
        clocked.pass(wait * 1_000);
    }
}

#[test]
fn what_somebody_waits_for_comes_before_all_others_and_is_the_probe_of_an_open_breaker() {
    let mut clocked = Clocked::new(16, 256);
    clocked.lanes.breaker_failures = 1;
    let first = |clocked: &mut Clocked, number| {
        let (to, now) = (HANGING, clocked.now);
        clocked.lanes.push_first(to, alone(to), (to, number), now)
    };
    clocked.push(HANGING, 0..3);
    assert_eq!(first(&mut clocked, 90), Ok(()));
    assert_eq!(first(&mut clocked, 91), Err((HANGING, 91)), "one at a time");
    let started = clocked.start_all();
    assert_eq!(started[0].1, (HANGING, 90));
    clocked.fail(started, 5);
    assert_eq!(first(&mut clocked, 92), Ok(()));
    let probe = clocked.start_all();
    assert_eq!(probe.len(), 1);
    assert_eq!(first(&mut clocked, 93), Ok(()));
    assert!(clocked.start_all().is_empty(), "behind the other probe");
    clocked.finish(probe, 5);
    assert_eq!(clocked.start_all().len(), 1);
}

#[test]
fn a_lane_that_is_well_again_calls_back_as_many_as_it_delivered_in_a_row() {
    let mut clocked = Clocked::new(16, 512);
    clocked.push(HANGING, 0..500);
    let started = clocked.start_all();
    clocked.pass(2_000);
    assert!(clocked.start_all().is_empty());
    assert!(clocked.delays().len() > 400);
    clocked.finish(started, 2_000);
    assert!(clocked.lanes.take_called_back().is_empty());
    let mut called_back = Vec::new();
    while clocked.lanes.totals().waiting > 0 {
        let started = clocked.start_all();
        clocked.finish(started, 5);
        called_back.extend(clocked.lanes.take_called_back());
    }
    let [(HANGING, count)] = called_back[..] else {
        panic!("{called_back:?}")
    };
    assert!((24..=48).contains(&count), "{count}");
    assert_eq!(clocked.looks_in_vain(600).len(), 7);
    assert!(
        clocked.lanes.lanes.is_empty(),
        "nothing is left to remember"
    );
}

#[test]
fn a_receiver_that_takes_two_seconds_calls_back_what_its_share_has_place_for() {
    let mut clocked = Clocked::new(16, 512);
    let mut count = |rounds, verdict| {
        clocked.push(HANGING, 0..100);
        let mut called_back = 0;
        for _ in 0..rounds {
            let started = clocked.start_all();
            clocked.pass(2_000);
            clocked.start_all();
            clocked.finish_with(started, 2_000, verdict);
            let counts = clocked.lanes.take_called_back().into_iter();
            called_back += counts.map(|(_, count)| count).sum::<u32>();
        }
        called_back
    };
    assert_eq!(count(20, Verdict::Ill { asked_for: None }), 0);
    let well = count(20, Verdict::Well);
    // Nothing of it comes here, so each success after the 32 that wait is news once more.
    assert!((32..=96).contains(&well), "{well}");
}

#[test]
fn a_lane_that_somebody_else_has_put_messages_off_of_calls_back_after_the_first_that_comes() {
    let mut clocked = Clocked::new(16, 512);
    let mut deliver = |was_parked| clocked.deliver(HEALTHY, was_parked);
    for _ in 0..20 {
        assert_eq!(deliver(false), []);
    }
    assert_eq!(deliver(true), [(HEALTHY, 8)]);
    for _ in 0..7 {
        assert_eq!(deliver(false), []);
    }
    assert_eq!(deliver(false), [(HEALTHY, 8)], "there may be more of them");
}

#[test]
fn a_lane_that_is_well_and_has_nothing_to_do_asks_each_second_until_nothing_is_left() {
    let mut clocked = Clocked::new(16, 512);
    assert_eq!(clocked.deliver(HEALTHY, true), [(HEALTHY, 8)]);
    for _ in 0..3 {
        // Others get what it has called back.
        clocked.pass(1_000);
        assert!(clocked.start_all().is_empty());
        assert_eq!(clocked.lanes.take_called_back(), [(HEALTHY, 8)]);
    }
    clocked.push(HEALTHY, 0..1);
    let started = clocked.start_all();
    clocked.pass(1_000);
    clocked.start_all();
    assert_eq!(
        clocked.lanes.take_called_back(),
        [],
        "it has something to do"
    );
    clocked.fail(started, 5);
    clocked.pass(1_000);
    clocked.start_all();
    assert_eq!(clocked.lanes.take_called_back(), [], "it is not well");
    clocked.push(HEALTHY, 0..1);
    let started = clocked.start_all();
    clocked.finish(started, 5);
    let looks = clocked.looks_in_vain(600);
    assert_eq!(looks, [1, 3, 7, 15, 31, 63, 127], "others may not know yet");
    assert_eq!(clocked.lanes.next_change(), None);
}

#[derive(Debug, Clone)]
enum Step {
    Push(i64),
    PushFirst(i64),
    Start,
    Finish(usize, u64, Verdict),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![
        2 => Just(Verdict::Well),
        2 => Just(Verdict::Ill { asked_for: None }),
        1 => Just(Verdict::Neither),
    ];
    prop_oneof![
        8 => (0..12i64).prop_map(Step::Push),
        1 => (0..12i64).prop_map(Step::PushFirst),
        6 => Just(Step::Start),
        6 => (any::<usize>(), prop_oneof![Just(5u64), Just(500), Just(3_000)], verdict)
            .prop_map(|(which, took, verdict)| Step::Finish(which, took, verdict)),
        2 => (0..2_000u64).prop_map(Step::Pass),
    ]
}

/// Twelve lanes to three hosts, of two organizations.
fn among(to: i64) -> Kin {
    let to = to.unsigned_abs();
    Kin {
        origin: Group(to % 3),
        organization: Group(to % 2),
    }
}

proptest! {
    #[test]
    fn shares_hold_order_is_kept_and_no_message_is_lost(
        slots in 1usize..40,
        room in 1usize..80,
        steps in proptest::collection::vec(step(), 0..600),
    ) {
        let mut clocked = Clocked::new(slots, room);
        clocked.lanes.breaker_failures = 3;
        let mut flying: Vec<(Ticket, Numbered)> = Vec::new();
        let (mut pushed, mut started, mut excess) = (0u32, 0u32, 0u32);
        let mut last: HashMap<SubscriptionId, u32> = HashMap::new();
        let mut firsts = HashSet::new();
        for step in steps {
            match step {
                Step::Push(to) => {
                    clocked.push_among(SubscriptionId(to), among(to), pushed..pushed + 1);
                    pushed += 1;
                }
                Step::PushFirst(to) => {
                    let message = (SubscriptionId(to), pushed);
                    let lanes = &mut clocked.lanes;
                    if lanes.push_first(message.0, among(to), message, clocked.now).is_ok() {
                        firsts.insert(pushed);
                        pushed += 1;
                    }
                }
                Step::Pass(millis) => clocked.pass(millis),
                Step::Finish(which, took, verdict) if !flying.is_empty() => {
                    let one = flying.swap_remove(which % flying.len());
                    clocked.finish_with(vec![one], took, verdict);
                }
                Step::Finish(..) => {}
                Step::Start => {
                    let Some((ticket, message)) = clocked.lanes.next(clocked.now) else { continue };
                    started += 1;
                    let (to, number) = message;
                    if !firsts.contains(&number) {
                        prop_assert!(last.insert(to, number).is_none_or(|before| before < number));
                    }
                    flying.push((ticket, message));
                    let lanes = &clocked.lanes;
                    if lanes.lanes[&to].is_slow() {
                        prop_assert!(lanes.shares.all.slow_in_flight <= lanes.shares.half());
                    }
                    if matches!(lanes.lanes[&to].breaker, Breaker::Open { .. }) {
                        prop_assert!(false, "an open breaker let one through");
                    }
                }
            }
            excess += u32::try_from(clocked.lanes.take_excess().len()).unwrap();
            let lanes = &clocked.lanes;
            prop_assert!(flying.len() <= slots);
            prop_assert_eq!(lanes.flights.len(), flying.len());
            let first = lanes.lanes.values().filter(|lane| lane.first.is_some()).count();
            prop_assert!(lanes.shares.all.waiting <= room + first);
            let waiting = u32::try_from(lanes.shares.all.waiting).unwrap();
            prop_assert_eq!(pushed, started + excess + waiting);
            let mut recounted = Shares::new(slots, room);
            for lane in lanes.lanes.values() {
                recounted.add(lane.kin, lane.totals());
            }
            prop_assert_eq!(recounted.all, lanes.shares.all);
            prop_assert_eq!(lanes.turns.len(), lanes.lanes.values().filter(|lane| lane.turn().is_some()).count());
        }
        // Everybody's turn comes once slots are given back.
        while clocked.lanes.shares.all.waiting > 0 {
            let more = clocked.start_all();
            prop_assert!(!more.is_empty() || !flying.is_empty(), "nobody may start");
            clocked.finish(std::mem::take(&mut flying), 5);
            clocked.finish(more, 5);
        }
    }
}
