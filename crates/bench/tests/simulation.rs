//! Hundreds of dispatchers in virtual time: the cost of hanging endpoints for healthy ones.
//!
//! The scenario has half of the usual slots and half of the usual traffic. Messages to bad endpoints would need 1.4 times
//! all slots. Each dispatcher owns two hanging endpoints.

use std::sync::OnceLock;
use std::time::Duration;

use hookline_bench::simulation::{
    Order, SimulationLoad, SimulationResult, SimulationScenario, simulate,
};

const DISPATCHERS: usize = 250;
const SLOTS: usize = 128;
const PUBLISHED: std::ops::Range<usize> = 0..28;
const OUTAGE: std::ops::Range<usize> = 5..25;

const LOAD: SimulationLoad = SimulationLoad {
    healthy: 6.0,
    slow: 5.0,
    hanging: 8.0,
    tenant: 4.0,
    dead: 0.2,
};

fn scenario(load: SimulationLoad, order: Order) -> SimulationScenario {
    let seconds = |count: usize| Duration::from_secs(count as u64);
    SimulationScenario {
        dispatchers: DISPATCHERS,
        slots: SLOTS,
        room: 3 * SLOTS,
        order,
        load,
        hanging: 2 * DISPATCHERS,
        published_for: seconds(PUBLISHED.end),
        outage: seconds(OUTAGE.start)..seconds(OUTAGE.end),
        seed: 7,
    }
}

fn with_bad() -> &'static SimulationResult {
    static RUN: OnceLock<SimulationResult> = OnceLock::new();
    RUN.get_or_init(|| simulate(&scenario(LOAD, Order::Scheduler)))
}

#[test]
fn bad_endpoints_do_not_delay_healthy_ones_at_hundreds_of_dispatchers() {
    // The same endpoints, all healthy all the time. Sharing a dispatcher with others costs the same in both runs.
    let all_well = simulate(&SimulationScenario {
        outage: Duration::ZERO..Duration::ZERO,
        ..scenario(LOAD, Order::Scheduler)
    });
    // Beside others, a sixteenth of the slots starts with each answer. The longest burst, a hundred messages, therefore
    // waits for at most twelve answers of 8 ms. The endpoint of 500 ms waits for one of its own answers.
    for (with, well, most) in [
        (
            with_bad().healthy(PUBLISHED),
            all_well.healthy(PUBLISHED),
            100,
        ),
        (with_bad().slow(PUBLISHED), all_well.slow(PUBLISHED), 500),
    ] {
        assert!(
            with.p99 <= well.p99 + most,
            "{with:?}, where all are well {well:?}"
        );
    }
}

#[test]
fn without_a_scheduler_the_same_bad_endpoints_stall_the_healthy_ones() {
    let run = simulate(&scenario(LOAD, Order::OneQueue));
    let waits = run.healthy(PUBLISHED);
    assert!(waits.p99 > 1_000, "{waits:?}");
    assert_eq!(run.delivered + run.exhausted, run.published);
}

#[test]
fn no_message_is_marked_more_than_once_on_average() {
    let run = with_bad();
    let marked: u32 = run.seconds.iter().map(|second| second.marked).sum();
    assert!(marked > 0 && (marked as usize) < run.published, "{marked}");
}

#[test]
fn bad_endpoints_leave_half_of_the_slots_and_no_memory_grows() {
    let run = with_bad();
    let all = 0..run.seconds.len();
    let slots = (SLOTS * DISPATCHERS) as u32;
    let permit = run.most(all.clone(), |second| second.bad_in_flight);
    assert!(permit <= slots * 3 / 4, "{permit} of {slots} slots");
    let in_memory = run.most(all, |second| second.in_memory);
    assert!(in_memory <= 4 * slots, "{in_memory} messages");
}

#[test]
fn every_delivery_ends_and_waiting_ones_arrive_after_recovery() {
    let run = with_bad();
    assert!(run.published > 90_000, "{}", run.published);
    assert_eq!((run.delivered, run.exhausted), (run.published, 0));
}

#[test]
fn a_scenario_repeats_for_its_seed_and_differs_for_another() {
    let few = |seed| {
        simulate(&SimulationScenario {
            dispatchers: 20,
            seed,
            ..scenario(LOAD, Order::Scheduler)
        })
    };
    assert_eq!(few(1), few(1));
    assert_ne!(few(1), few(2));
}
