//! What an open breaker lets through.

use std::collections::BTreeMap;

use super::*;

/// A message that has so many attempts behind it.
fn tried(attempts: u32, id: u32) -> Numbered {
    (HANGING, (attempts << 24) + id)
}

fn push(clocked: &mut Clocked, message: Numbered) {
    let (to, now) = (HANGING, clocked.now);
    clocked.lanes.push(to, alone(to), message, now);
}

/// A lane whose breaker has just opened, for a second.
fn opened() -> Clocked {
    let mut clocked = Clocked::new(16, 256);
    clocked.lanes.breaker_failures = 1;
    push(&mut clocked, tried(0, 0));
    let started = clocked.start_all();
    clocked.fail(started, 5);
    clocked
}

#[test]
fn the_place_of_the_probe_is_kept_for_the_message_with_the_most_attempts() {
    let mut clocked = opened();
    for attempts in [1, 3, 2] {
        push(&mut clocked, tried(attempts, 1));
    }
    assert_eq!(clocked.delays(), [1, 1, 2]);
    clocked.pass(1_000);
    push(&mut clocked, tried(2, 2));
    assert!(
        clocked.start_all().is_empty(),
        "another one was there first"
    );
    push(&mut clocked, tried(3, 1));
    let [(_, probe)] = clocked.start_all()[..] else {
        panic!("no probe")
    };
    assert_eq!(probe, tried(3, 1));
}

#[test]
fn the_place_of_the_probe_is_not_kept_for_long() {
    let mut clocked = opened();
    push(&mut clocked, tried(3, 1));
    clocked.pass(2_999);
    push(&mut clocked, tried(0, 2));
    assert!(clocked.start_all().is_empty());
    clocked.pass(1);
    push(&mut clocked, tried(0, 2));
    assert_eq!(clocked.start_all().len(), 1);
}

#[test]
fn of_a_dead_receivers_backlog_one_delivery_gets_to_the_end_of_its_schedule() {
    const SCHEDULE: [u64; 5] = [5, 30, 120, 900, 3_600];
    let whole: u64 = SCHEDULE.iter().sum();
    let mut clocked = opened();
    let begin = clocked.now;
    let mut coming: BTreeMap<(u64, u32), Numbered> = BTreeMap::new();
    for id in 0..300 {
        coming.insert((0, id), tried(0, id));
    }
    // Each attempt may wait for a probe, which comes once a minute.
    let limit = whole + 60 * (SCHEDULE.len() as u64 + 1);
    let mut probes = 0;
    while let Some(((at, _), message)) = coming.pop_first() {
        assert!(at < limit, "none of {probes} probes was the last attempt");
        clocked.now = begin + Duration::from_secs(at);
        push(&mut clocked, message);
        let started = clocked.start_all();
        for &(_, (_, number)) in &started {
            probes += 1;
            let attempts = number >> 24;
            let Some(wait) = SCHEDULE.get(attempts as usize) else {
                return;
            };
            let id = id_of((HANGING, number));
            coming.insert((at + wait, id), tried(attempts + 1, id));
        }
        clocked.fail(started, 5);
        for Excess { message, delay } in clocked.lanes.take_excess() {
            coming.insert((at + delay.as_secs(), id_of(message)), message);
        }
    }
}

fn id_of((_, number): Numbered) -> u32 {
    number & 0xff_ffff
}
