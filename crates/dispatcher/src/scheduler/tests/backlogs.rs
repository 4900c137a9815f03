//! Subscription queues and their backlogs.

use super::*;

/// A slow subscription queue with a backlog of `count` rows.
fn with_backlog(count: u32) -> (ClockedScheduler, StoredBacklog) {
    let mut clocked = ClockedScheduler::new(16, 512);
    let mut stored = StoredBacklog::default();
    clocked.push(HANGING, 0..count);
    let started = clocked.start_all();
    clocked.pass(1_001);
    assert!(clocked.start_all().is_empty());
    stored.put(clocked.scheduler.take_excess());
    clocked.finish(started, 1_001);
    (clocked, stored)
}

#[test]
fn a_queue_that_recovers_drains_its_backlog_in_order() {
    let (mut clocked, mut stored) = with_backlog(500);
    let mut order = Vec::new();
    for _ in 0..200 {
        let started = clocked.start_all();
        order.extend(started.iter().map(|one| one.1.1 & !FROM_BACKLOG));
        for one in started {
            stored.done(one.1);
            clocked.finish(vec![one], 5);
        }
        stored.put(clocked.scheduler.take_excess());
        stored.serve(&mut clocked, alone);
        clocked.pass(50);
    }
    assert!(order.is_sorted() && order.len() == 500 - 8, "{order:?}");
    assert!(
        clocked.scheduler.queues.is_empty(),
        "nothing is left to remember"
    );
    assert!(!clocked.scheduler.may_read());
}

#[test]
fn new_messages_go_behind_a_backlog_until_a_search_from_the_start_finds_nothing() {
    let (mut clocked, mut stored) = with_backlog(300);
    clocked.push(HANGING, 1_000..1_001);
    let excess = clocked.scheduler.take_excess();
    assert_eq!(excess, [(HANGING, 1_000)]);
    stored.put(excess);
    let mut last = 0;
    for _ in 0..200 {
        for one in clocked.start_all() {
            last = one.1.1 & !FROM_BACKLOG;
            stored.done(one.1);
            clocked.finish(vec![one], 5);
        }
        stored.serve(&mut clocked, alone);
        clocked.pass(50);
    }
    assert_eq!(last, 1_000);
    clocked.push(HANGING, 1_001..1_002);
    assert_eq!(clocked.start_all().len(), 1);
}

#[test]
fn a_queue_reads_more_backlog_when_half_of_its_messages_have_started() {
    let (mut clocked, mut stored) = with_backlog(500);
    let started = clocked.start_all();
    clocked.finish(started.into_iter().take(1).collect(), 5);
    let reads = stored.serve(&mut clocked, alone);
    let [
        BacklogSearch {
            limit,
            class: BacklogClass::Live,
            after: None,
            ..
        },
    ] = reads[..]
    else {
        panic!("{reads:?}")
    };
    assert!((200..=256).contains(&limit), "half of the room: {limit}");
    assert!(stored.serve(&mut clocked, alone).is_empty(), "it is full");
}

#[test]
fn backlogs_leave_half_of_the_room_to_new_deliveries() {
    let mut clocked = ClockedScheduler::new(64, 400);
    for queue in 0..40 {
        clocked
            .scheduler
            .note_backlog(SubscriptionId(queue), BacklogClass::Live, clocked.now);
    }
    let reads = clocked.scheduler.take_reads(clocked.now);
    let planned: usize = reads.iter().map(|read| read.limit).sum();
    assert_eq!(planned, 200);
}

#[test]
fn messages_of_a_replay_start_between_others() {
    let mut clocked = ClockedScheduler::new(1, 64);
    clocked.push(HEALTHY, 0..6);
    clocked.push(
        HEALTHY,
        (FROM_BACKLOG | REPLAYED)..(FROM_BACKLOG | REPLAYED) + 6,
    );
    let mut order = Vec::new();
    for _ in 0..12 {
        let started = clocked.start_all();
        order.extend(started.iter().map(|one| one.1.1 & REPLAYED != 0));
        clocked.finish(started, 5);
    }
    let replayed = |slots: &[bool]| slots.iter().filter(|one| **one).count();
    assert_eq!(replayed(&order), 6);
    assert!((1..=2).contains(&replayed(&order[..6])), "{order:?}");
}

#[test]
fn a_queue_that_was_taken_over_with_backlog_starts_with_one_probe() {
    let mut clocked = ClockedScheduler::new(16, 64);
    clocked.scheduler.take_over(HEALTHY, None);
    clocked
        .scheduler
        .note_backlog(HEALTHY, BacklogClass::Live, clocked.now);
    let reads = clocked.scheduler.take_reads(clocked.now);
    assert_eq!(reads.len(), 1);
    clocked.push(HEALTHY, FROM_BACKLOG..FROM_BACKLOG + 4);
    let probe = clocked.start_all();
    assert_eq!(probe.len(), 1);
    clocked.finish(probe, 5);
    clocked.push(HEALTHY, (FROM_BACKLOG + 4)..(FROM_BACKLOG + 8));
    assert_eq!(clocked.start_all().len(), 4);
}

#[test]
fn a_queue_that_was_taken_over_continues_the_wait_of_its_breaker() {
    let mut clocked = ClockedScheduler::new(16, 64);
    clocked
        .scheduler
        .take_over(HANGING, Some(Duration::from_secs(8)));
    clocked.push(HANGING, 0..1);
    let probe = clocked.start_all();
    assert_eq!(probe.len(), 1);
    clocked.fail(probe, 5);
    clocked.push(HANGING, 1..2);
    clocked.pass(15_999);
    assert!(clocked.start_all().is_empty());
    clocked.pass(1);
    assert_eq!(clocked.start_all().len(), 1);
}

#[test]
fn a_queue_that_exists_at_the_take_over_continues_the_wait_too() {
    let mut clocked = ClockedScheduler::new(16, 64);
    // The store answers a call of an earlier ownership.
    clocked
        .scheduler
        .note_backlog(HANGING, BacklogClass::Live, clocked.now);
    let wait = Some(Duration::from_secs(8));
    clocked.scheduler.take_over(HANGING, wait);
    clocked.push(HANGING, FROM_BACKLOG..FROM_BACKLOG + 1);
    let probe = clocked.start_all();
    assert_eq!(probe.len(), 1);
    clocked.fail(probe, 5);
    clocked.scheduler.take_over(HANGING, wait);
    clocked.push(HANGING, FROM_BACKLOG + 1..FROM_BACKLOG + 2);
    clocked.pass(15_999);
    assert!(clocked.start_all().is_empty());
    clocked.pass(1);
    assert_eq!(clocked.start_all().len(), 1);
}

#[test]
fn a_suspended_queue_starts_one_probe_after_its_wait() {
    let mut clocked = ClockedScheduler::new(16, 64);
    clocked.push(HEALTHY, 0..10);
    let (_, message) = clocked.scheduler.next(clocked.now).unwrap();
    let until = clocked.now + Duration::from_secs(60);
    clocked
        .scheduler
        .suspend(HEALTHY, message, until, clocked.now);
    assert!(clocked.start_all().is_empty());
    assert_eq!(clocked.scheduler.take_excess().len(), 9, "one is kept");
    assert!(clocked.scheduler.take_breaker_changes().is_empty());
    clocked.pass(59_999);
    assert!(clocked.start_all().is_empty());
    clocked.pass(1);
    assert_eq!(clocked.start_all().len(), 1);
}

#[test]
fn queues_of_released_partitions_are_removed() {
    let (mut clocked, _) = with_backlog(100);
    clocked.scheduler.retain(|_| false);
    assert!(clocked.scheduler.queues.is_empty());
    assert_eq!(clocked.scheduler.totals().waiting, 0);
    assert!(clocked.scheduler.take_reads(clocked.now).is_empty());
}

#[test]
fn a_failed_backlog_search_is_repeated() {
    let mut clocked = ClockedScheduler::new(16, 64);
    clocked
        .scheduler
        .note_backlog(HEALTHY, BacklogClass::Live, clocked.now);
    let [read] = clocked.scheduler.take_reads(clocked.now)[..] else {
        panic!("none")
    };
    assert!(
        clocked.scheduler.take_reads(clocked.now).is_empty(),
        "one at a time"
    );
    clocked.scheduler.read_failed(read, clocked.now);
    assert!(
        clocked.scheduler.take_reads(clocked.now).is_empty(),
        "too early"
    );
    clocked.pass(250);
    assert_eq!(clocked.scheduler.take_reads(clocked.now), [read]);
}
