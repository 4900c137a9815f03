//! Probes of an open circuit breaker.

use std::collections::BTreeMap;

use super::*;

/// A message with this number of earlier attempts.
fn tried(attempts: u32, id: u32) -> Numbered {
    (HANGING, (attempts << 24) + id)
}

fn push(clocked: &mut ClockedScheduler, message: Numbered) {
    let (to, now) = (HANGING, clocked.now);
    clocked.scheduler.push(to, alone(to), message, now);
}

/// A subscription queue with a circuit breaker that has just opened, for a second.
fn opened() -> ClockedScheduler {
    let mut clocked = ClockedScheduler::new(16, 256);
    clocked.scheduler.breaker_failures = 1;
    push(&mut clocked, tried(0, 0));
    let started = clocked.start_all();
    clocked.fail(started, 5);
    clocked
}

#[test]
fn the_probe_is_the_message_with_the_most_attempts() {
    let mut clocked = opened();
    for attempts in [1, 3, 2] {
        push(&mut clocked, tried(attempts, 1));
    }
    assert_eq!(clocked.scheduler.take_excess(), [tried(1, 1), tried(2, 1)]);
    clocked.pass(1_000);
    push(&mut clocked, tried(2, 2));
    let [(_, probe)] = clocked.start_all()[..] else {
        panic!("no probe")
    };
    assert_eq!(probe, tried(3, 1));
}

#[test]
fn one_delivery_in_the_backlog_of_a_dead_receiver_reaches_the_end_of_its_schedule() {
    const SCHEDULE: [u64; 5] = [5, 30, 120, 900, 3_600];
    let whole: u64 = SCHEDULE.iter().sum();
    let mut clocked = opened();
    let begin = clocked.now;
    let mut stored = StoredBacklog::default();
    let mut coming: BTreeMap<(u64, u32), Numbered> = BTreeMap::new();
    for id in 0..300 {
        coming.insert((0, id), tried(0, id));
    }
    // Each attempt may wait for a probe, which comes once a minute.
    let limit = whole + 60 * (SCHEDULE.len() as u64 + 1);
    let mut probes = 0;
    for at in 0..limit {
        clocked.now = begin + Duration::from_secs(at);
        while let Some(entry) = coming.first_entry()
            && entry.key().0 <= at
        {
            push(&mut clocked, entry.remove());
        }
        stored.put(clocked.scheduler.take_excess());
        stored.serve(&mut clocked, alone);
        let started = clocked.start_all();
        for &(_, message) in &started {
            probes += 1;
            stored.done(message);
            let (_, number) = message;
            let attempts = number >> 24;
            let Some(wait) = SCHEDULE.get(attempts as usize) else {
                return;
            };
            let id = number & !FROM_BACKLOG & 0xff_ffff;
            coming.insert((at + wait, id), tried(attempts + 1, id));
        }
        clocked.fail(started, 5);
    }
    panic!("none of {probes} probes was the last attempt");
}
