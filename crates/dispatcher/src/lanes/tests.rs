use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

type Message = (SubscriptionId, u32);

const HANGING: SubscriptionId = SubscriptionId(1);
const HEALTHY: SubscriptionId = SubscriptionId(2);

struct Clocked {
    lanes: Lanes<Message>,
    now: Instant,
}

impl Clocked {
    fn new(slots: usize, room: usize) -> Self {
        Self {
            lanes: Lanes::new(slots, room),
            now: Instant::now(),
        }
    }

    fn push(&mut self, to: SubscriptionId, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.lanes.push(to, (to, number));
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn start_all(&mut self) -> Vec<(Ticket, Message)> {
        std::iter::from_fn(|| self.lanes.next(self.now)).collect()
    }

    fn finish(&mut self, started: Vec<(Ticket, Message)>, millis: u64) {
        for (ticket, _) in started {
            self.lanes
                .finished(ticket, Some(Duration::from_millis(millis)));
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
    clocked.finish(probes, 5);
    clocked.push(HANGING, 64..96);
    assert!(clocked.start_all().len() > 10);
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
        for (ticket, _) in clocked.start_all() {
            clocked.lanes.finished(ticket, Some(Duration::from_secs(3)));
        }
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
    assert_eq!((delays[0], delays[32], delays[209]), (1, 2, 60));
}

#[test]
fn a_quick_lane_may_fill_the_room_and_one_that_takes_its_time_half_of_it() {
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
    assert_eq!(clocked.lanes.room(), 20);
    assert!(!clocked.lanes.take_excess().is_empty());
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
    for number in 0..20_000 {
        clocked.push(SubscriptionId(number), 0..1);
        let started = clocked.start_all();
        clocked.finish(started, 5_000);
    }
    assert!(clocked.lanes.lanes.len() <= REMEMBERED + 1);
}

#[derive(Debug, Clone)]
enum Step {
    Push(i64),
    Start,
    Finish(usize, u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12i64).prop_map(Step::Push),
        3 => Just(Step::Start),
        3 => (any::<usize>(), prop_oneof![Just(5u64), Just(500), Just(3_000)])
            .prop_map(|(which, took)| Step::Finish(which, took)),
        1 => (0..2_000u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn shares_hold_order_is_kept_and_no_message_is_lost(
        slots in 1usize..40,
        room in 1usize..80,
        steps in proptest::collection::vec(step(), 0..600),
    ) {
        let mut clocked = Clocked::new(slots, room);
        let mut flying: Vec<(Ticket, Message)> = Vec::new();
        let (mut pushed, mut started, mut excess) = (0u32, 0u32, 0u32);
        let mut last: HashMap<SubscriptionId, u32> = HashMap::new();
        for step in steps {
            match step {
                Step::Push(to) => {
                    clocked.push(SubscriptionId(to), pushed..pushed + 1);
                    pushed += 1;
                }
                Step::Pass(millis) => clocked.pass(millis),
                Step::Finish(which, took) if !flying.is_empty() => {
                    let one = flying.swap_remove(which % flying.len());
                    clocked.finish(vec![one], took);
                }
                Step::Finish(..) => {}
                Step::Start => {
                    let Some((ticket, message)) = clocked.lanes.next(clocked.now) else { continue };
                    started += 1;
                    let (to, number) = message;
                    prop_assert!(last.insert(to, number).is_none_or(|before| before < number));
                    flying.push((ticket, message));
                    let lanes = &clocked.lanes;
                    if lanes.lanes[&to].is_slow() {
                        prop_assert!(lanes.totals.slow_in_flight <= lanes.half());
                    }
                }
            }
            excess += u32::try_from(clocked.lanes.take_excess().len()).unwrap();
            let lanes = &clocked.lanes;
            prop_assert!(flying.len() <= slots);
            prop_assert_eq!(lanes.in_flight.len(), flying.len());
            prop_assert!(lanes.totals.waiting <= room);
            let waiting = u32::try_from(lanes.totals.waiting).unwrap();
            prop_assert_eq!(pushed, started + excess + waiting);
            let sum = |of: fn(&Totals) -> usize| lanes.lanes.values().map(|lane| of(&lane.totals())).sum::<usize>();
            prop_assert_eq!(sum(|totals| totals.waiting), lanes.totals.waiting);
            prop_assert_eq!(sum(|totals| totals.slow_waiting), lanes.totals.slow_waiting);
            prop_assert_eq!(sum(|totals| totals.slow_in_flight), lanes.totals.slow_in_flight);
            prop_assert_eq!(sum(|totals| totals.active), lanes.totals.active);
            let turns = lanes.fast_turns.len() + lanes.slow_turns.len();
            prop_assert_eq!(turns, lanes.lanes.values().filter(|lane| !lane.waiting.is_empty()).count());
        }
        // Everybody's turn comes once slots are given back.
        while clocked.lanes.totals.waiting > 0 {
            let more = clocked.start_all();
            prop_assert!(!more.is_empty() || !flying.is_empty(), "nobody may start");
            clocked.finish(std::mem::take(&mut flying), 5);
            clocked.finish(more, 5);
        }
    }
}
